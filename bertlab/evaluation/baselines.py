"""What a model must beat to be worth its electricity: the majority class, TF-IDF with logistic regression, unigrams.

A score without these beside it says little; where the BERT loses to one of them, that is the result.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np


def majority_class(train_labels: Sequence[int], num_test: int) -> np.ndarray:
    """The training set's most frequent class (the lowest number among equals) for every test example. Shape (num_test,)."""
    return np.full(num_test, np.bincount(np.asarray(train_labels)).argmax())


def tfidf_logistic_regression(
    train_texts: Sequence[str], train_labels: Sequence[int], test_texts: Sequence[str], seed: int = 0
) -> np.ndarray:
    """Predicted class numbers (n,): words and word pairs by TF-IDF (sublinear, in at least 2 texts), logistic regression with C = 10.

    One fixed, ordinary setting, not tuned on anything: a strong baseline for topics, a weak one for word order.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2 if len(train_texts) >= 100 else 1)
    try:
        features = words.fit_transform(train_texts)
    except ValueError:  # no word to count: all that is left to learn from is how frequent the classes are
        return majority_class(train_labels, len(test_texts))
    model = LogisticRegression(C=10.0, max_iter=1000, random_state=seed).fit(features, np.asarray(train_labels))
    return np.asarray(model.predict(words.transform(test_texts)))


def unigram_loss(train_counts: np.ndarray, masked_counts: np.ndarray) -> float:
    """Mean cross-entropy in nats of masked tokens under the training text's token frequencies, each count plus one.

    train_counts, masked_counts: (vocab_size,) occurrences. What a model knows that looks at no context at all.
    """
    frequencies = (train_counts + 1) / (train_counts + 1).sum()
    return float(-(masked_counts * np.log(frequencies)).sum() / masked_counts.sum())


def commonest_tags(
    train_words: Sequence[Sequence[str]], train_tags: Sequence[Sequence[str]], test_words: Sequence[Sequence[str]]
) -> list[list[str]]:
    """The tag that each word has most often in train, of equals the first in the alphabet, and "O" for words that train does not have."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for words, tags in zip(train_words, train_tags, strict=True):
        for word, tag in zip(words, tags, strict=True):
            counts[word][tag] += 1
    commonest = {word: min(tags, key=lambda tag: (-tags[tag], tag)) for word, tags in counts.items()}
    return [[commonest.get(word, "O") for word in words] for words in test_words]

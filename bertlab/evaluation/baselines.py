"""What a model must beat to be worth its electricity: the majority class or the mean, TF-IDF (a linear model on it, or cosines), unigrams.

A score without these beside it says little; where the BERT loses to one of them, that is the result.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

COMPONENTS = 100  # of latent semantic analysis

_WORD, _SENTENCE = re.compile(r"\w+"), re.compile(r"[^.!?]+[.!?]*")


def majority_class(train_labels: Sequence[int], num_test: int) -> np.ndarray:
    """The training set's most frequent class (the lowest number among equals) for every test example. Shape (num_test,)."""
    return np.full(num_test, np.bincount(np.asarray(train_labels)).argmax())


def class_shares(train_labels: Sequence[int], num_test: int, classes: int) -> np.ndarray:
    """How frequent each class is in train, for every test example: probabilities (num_test, classes), whose largest is majority_class."""
    return np.tile(np.bincount(np.asarray(train_labels), minlength=classes) / len(train_labels), (num_test, 1))


def tfidf_logistic_regression(
    train_texts: Sequence[str], train_labels: Sequence[int], test_texts: Sequence[str], classes: int, seed: int = 0
) -> np.ndarray:
    """Probabilities (n, classes): words and word pairs by TF-IDF (sublinear, in at least 2 texts), logistic regression with C = 10.

    One fixed, ordinary setting, not tuned on anything: a strong baseline for topics, a weak one for word order.
    """
    from sklearn.linear_model import LogisticRegression

    features = _tfidf(train_texts, test_texts)
    if features is None:  # all that is left to learn from is how frequent the classes are
        return class_shares(train_labels, len(test_texts), classes)
    model = LogisticRegression(C=10.0, max_iter=1000, random_state=seed).fit(features[0], np.asarray(train_labels))
    found = np.zeros((len(test_texts), classes))
    found[:, model.classes_] = model.predict_proba(features[1])
    return found


def most_frequent_set(train_sets: np.ndarray, num_test: int) -> np.ndarray:
    """The training set's most frequent set of labels, (n, K) truth values (of equals the first), for every test example: (num_test, K)."""
    commonest = Counter(map(bytes, np.asarray(train_sets, dtype=bool))).most_common(1)[0][0]
    return np.tile(np.frombuffer(commonest, dtype=bool), (num_test, 1))


def tfidf_one_vs_rest(train_texts: Sequence[str], train_sets: np.ndarray, test_texts: Sequence[str], seed: int = 0) -> np.ndarray:
    """Probabilities (n, K) for sets of labels, each on its own: the same features, a logistic regression a label."""
    from sklearn.linear_model import LogisticRegression

    train_sets = np.asarray(train_sets, dtype=bool)
    features = _tfidf(train_texts, test_texts)
    found = np.tile(train_sets.mean(0), (len(test_texts), 1))  # of labels that are on every text or on none, too
    if features is not None:
        for label in np.flatnonzero(train_sets.any(0) & ~train_sets.all(0)):
            model = LogisticRegression(C=10.0, max_iter=1000, solver="liblinear", random_state=seed).fit(features[0], train_sets[:, label])
            found[:, label] = model.predict_proba(features[1])[:, 1]
    return found


def tfidf_ridge(train_texts: Sequence[str], train_numbers: np.ndarray, test_texts: Sequence[str], seed: int = 0) -> np.ndarray:
    """Predicted numbers (n,): the same features, ridge regression with alpha = 1 on numbers of mean 0."""
    from sklearn.linear_model import Ridge

    features = _tfidf(train_texts, test_texts)
    mean = float(np.mean(train_numbers))
    if features is None:
        return np.full(len(test_texts), mean)
    model = Ridge(alpha=1.0, solver="lsqr", random_state=seed).fit(features[0], np.asarray(train_numbers) - mean)
    return np.asarray(model.predict(features[1])) + mean


def tfidf_cosines(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
    """The cosine of each pair of texts by words and word pairs (sublinear TF-IDF fitted on all of them), 0 where one has no word. (n,)."""
    features = _tfidf([*first, *second], second, in_texts=1)
    if features is None:
        return np.zeros(len(first))
    return np.asarray(features[0][: len(first)].multiply(features[1]).sum(1)).ravel()


def tfidf_nearest(queries: Sequence[str], pool: Sequence[str], most: int) -> list[list[int]]:
    """For each query the places in `pool` of the `most` texts of highest cosine by words and word pairs (sublinear TF-IDF fitted on the
    pool), the nearest first, or fewer where fewer have a word of it. The pool's words are held in memory."""
    from sklearn.neighbors import NearestNeighbors

    features = _tfidf(pool, queries, in_texts=1)
    if features is None:
        return [[] for _ in queries]
    nearest = NearestNeighbors(n_neighbors=min(most, len(pool)), metric="cosine", algorithm="brute").fit(features[0])
    distances, places = nearest.kneighbors(features[1])
    return [row[distance < 1].tolist() for row, distance in zip(places, distances, strict=True)]  # 1: no word in common


def tfidf_components(texts: Sequence[str], seed: int = 0) -> np.ndarray:
    """Vectors (n, 100 at most) of texts by words and word pairs: their TF-IDF's largest singular components, latent semantic analysis
    (Deerwester et al. 1990). Zeros where a text has no word. The same for any number of threads."""
    from sklearn.decomposition import TruncatedSVD
    from threadpoolctl import threadpool_limits

    features = _tfidf(texts, texts[:1])
    if features is None:
        return np.zeros((len(texts), 1))
    with threadpool_limits(1):  # its threads add in any order
        return np.asarray(TruncatedSVD(min(COMPONENTS, *features[0].shape), random_state=seed).fit_transform(features[0]))


def _tfidf(train_texts: Sequence[str], test_texts: Sequence[str], in_texts: int = 2) -> tuple[Any, Any] | None:
    """Words and word pairs of both by TF-IDF (sublinear, of 100 texts and more those in at least `in_texts`) fitted on the first; None
    where it has no word."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=in_texts if len(train_texts) >= 100 else 1)
    try:
        return words.fit_transform(train_texts), words.transform(test_texts)
    except ValueError:
        return None


def nearest_sentence(questions: Sequence[str], contexts: Sequence[str]) -> list[str]:
    """For each question the sentence of its context that has most of its words (of equals the first), as the answer: ends at . ! or ?."""
    found = []
    for question, context in zip(questions, contexts, strict=True):
        asked = set(_WORD.findall(question.lower()))
        sentences = [part for part in _SENTENCE.findall(context) if part.strip()] or [context]
        found.append(max(sentences, key=lambda sentence: len(asked & set(_WORD.findall(sentence.lower())))).strip())
    return found


def unigram_loss(train_counts: np.ndarray, masked_counts: np.ndarray) -> float:
    """Mean cross-entropy in nats of masked tokens under the training text's token frequencies, each count plus one.

    train_counts, masked_counts: (vocab_size,) occurrences. What a model knows that looks at no context at all.
    """
    frequencies = (train_counts + 1) / (train_counts + 1).sum()
    return float(-(masked_counts * np.log(frequencies)).sum() / masked_counts.sum())


def commonest_tags(
    train_words: Sequence[Sequence[str]], train_tags: Sequence[Sequence[str]], test_words: Sequence[Sequence[str]]
) -> tuple[list[list[str]], list[np.ndarray]]:
    """The tag that each word has most often in train, of equals the first in the alphabet, and how often it has that one, as a share; "O"
    and a share of 0 for words that train does not have."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for words, tags in zip(train_words, train_tags, strict=True):
        for word, tag in zip(words, tags, strict=True):
            counts[word][tag] += 1
    commonest = {word: min(tags, key=lambda tag: (-tags[tag], tag)) for word, tags in counts.items()}
    shares = {word: counts[word][tag] / counts[word].total() for word, tag in commonest.items()}
    return (
        [[commonest.get(word, "O") for word in words] for words in test_words],
        [np.array([shares.get(word, 0.0) for word in words]) for words in test_words],
    )

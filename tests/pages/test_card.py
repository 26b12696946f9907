"""Model cards: metadata that the hub's own reader takes, whatever the licence and the names hold, and the facts as they are."""

from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from markdown_it import MarkdownIt

from bertlab.pages.card import classifier_card, encoder_card, exported_card, pretrained_card, pretraining_facts, vectors_card
from bertlab.pages.metadata import LICENCES, front_matter, on_the_hub
from bertlab.tasks.choosing import TASKS

PRETRAINED: dict[str, Any] = {
    "bertlab": "0.1.0",
    "parameters": 1_234_567,
    "layers": 2,
    "hidden_size": 128,
    "vocab_size": 8192,
    "lowercase": True,
    "steps": 600,
    "tokens_seen": 2_400_000,
    "started_from": None,
    "text_read": [],
    "corpus": {
        "documents": 9129,
        "tokens": 800_000,
        "sources": [{"name": "articles.jsonl.xz", "licence": "CC-BY-SA-4.0"}],
        "licences": ["CC-BY-SA-4.0"],
        "languages": [],
        "sha256": "ab" * 32,
    },
    "heldout": {
        "mlm_loss": 5.4321,
        "unigram_loss": 6.5,
        "masked_accuracy": 0.1234,
        "nsp_accuracy": 0.625,
        "nsp_majority": 0.51,
        "masked_tokens": 700.0,
        "pairs": 40.0,
    },
}
SCORES = {"accuracy": 0.8, "macro": {"f1": 0.75}, "n": 60}
CLASSIFIER: dict[str, Any] = {
    "bertlab": "0.1.0",
    "started_from": "RUN/model",
    "text_read": [{"name": "hf:someone/acts", "licence": "CC-BY-SA-4.0"}, {"name": "mine.txt", "licence": ""}],
    "train_examples": 1234,
    "seeds": 3,
    "dev": SCORES,
    "test": {"accuracy": 0.7, "macro": {"f1": 0.6543210987654321}, "n": 200},
    "data": {"train": {"name": "train.csv", "sha256": "cd" * 32}, "test": {"name": "My test.csv", "sha256": "ef" * 32}},
}

FOUND = {"score": "mrr", "difference": 0.0604, "low": 0.037, "high": 0.084, "what": "the first <b> finds the second"}
VECTORS: dict[str, Any] = {
    "bertlab": "0.1.0",
    "started_from": "RUN/model",
    "text_read": [{"name": "hf:someone/acts", "licence": "CC-BY-SA-4.0"}, {"name": "mine.txt", "licence": ""}],
    "texts": "pairs",
    "rows": 12_345,
    "batch_size": 64,
    "steps": 100,
    "temperature": 0.05,
    "pooling": "mean",
    "normalize": True,
    "matryoshka_dims": [128, 64],
    "best": {"step": 80},
    "test": FOUND | {"before": {"mrr": 0.1129, "recall@1": 0.042, "n": 427}, "after": {"mrr": 0.1733, "recall@1": 0.0801, "n": 427}},
}


EXPORTED: dict[str, Any] = {
    "bertlab": "0.1.0",
    "task": "tokens",
    "outputs": ["logits"],
    "labels": ["O", "B-river"],
    "pairs": False,
    "max_length": 128,
    "text_read": [],
    "check": {"batches": 5, "largest_difference": 1e-6},
}
ENCODER: dict[str, Any] = {
    "bertlab": "0.1.0",
    "pooling": "mean",
    "normalize": True,
    "made_from": {"path": "hf:someone/a-bert"},
    "text_read": [],
}


def metadata(card: str) -> dict[str, Any]:
    """The front matter, read by YAML and by huggingface_hub, which must agree, also when the latter has written it again."""
    begin, front, rest = card.split("---\n", 2)
    assert begin == "" and rest.startswith("\n#")
    read: dict[str, Any] = yaml.safe_load(front)
    theirs = ModelCard(card)
    assert theirs.data.to_dict() == read
    assert theirs.text.lstrip("\n") == rest.lstrip("\n")
    assert ModelCardData(**yaml.safe_load(theirs.data.to_yaml())).to_dict() == read
    assert read["pipeline_tag"] in PIPELINES and read.get("license", "other") in LICENCES | {"other"}
    return read


def results(card: str) -> list[EvalResult]:
    """The scores, as the hub's own reader has them."""
    data = ModelCard(card).data
    assert isinstance(data, ModelCardData)
    return list(data.eval_results or [])


# of https://huggingface.co/tasks, those of texts that we use
PIPELINES = {"fill-mask", "text-classification", "token-classification", "question-answering", "sentence-similarity", "feature-extraction"}


def pretrained(**changes: Any) -> str:
    return pretrained_card(PRETRAINED | changes)


def test_a_pretrained_card_says_what_the_hub_needs_and_what_was_measured() -> None:
    card = pretrained()
    read = metadata(card)
    assert read.pop("model-index")[0]["name"] == "bertlab-fill-mask"
    assert read == {
        "library_name": "transformers",
        "pipeline_tag": "fill-mask",
        "license": "cc-by-sa-4.0",
        "tags": ["bert", "bertlab"],
        "metrics": ["loss", "accuracy"],
    }
    found = {result.metric_name: (result.metric_type, result.metric_value) for result in results(card)}
    assert found == {
        "MLM loss (nats a masked token)": ("loss", 5.4321),
        "masked-word accuracy": ("accuracy", 0.1234),
        "next-sentence accuracy": ("accuracy", 0.625),
    }
    assert all(each.dataset_split == "heldout" and each.dataset_args == {"sha256": "ab" * 32} for each in results(card))
    for fact in (
        "1,234,567 parameters",
        "9,129 documents",
        "600 steps",
        "5.432 nats",
        "6.500",
        "12.3%",
        "62.5%",
        "uncased",
        "random weights",
    ):
        assert fact in card
    assert "- articles.jsonl.xz (CC-BY-SA-4.0)" in card


def test_a_classifier_card_says_what_the_hub_needs_and_what_was_measured() -> None:
    card = classifier_card(CLASSIFIER, ["no", "yes"])
    read = metadata(card)
    assert read.pop("model-index")[0]["name"] == "bertlab-text-classification"
    assert read == {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["bert", "bertlab"],
        "datasets": ["someone/acts"],
        "metrics": ["f1", "accuracy"],
    }
    for fact in (
        "2 classes: no, yes.",
        "1,234 training examples",
        "macro-F1 0.750 (n = 60)",
        "macro-F1 0.654 (n = 200)",
        "best of 3 seeds",
    ):
        assert fact in card
    without = classifier_card(CLASSIFIER | {"test": None}, ["no", "yes"])
    assert "Test:" not in without and "Dev:" in without and results(without) == [] and "metrics" not in metadata(without)


def test_a_classifier_card_says_what_stands_against_its_score_and_how_it_opens_with_its_head() -> None:
    card = classifier_card(CLASSIFIER, ["no", "yes"])
    assert "Without a BERT" not in card and "the test's scores" not in card
    against = {
        "baselines": {"TF-IDF + logistic regression": 0.86111, "majority class": 0.1},
        "leakage": {"rows": 200, "equal": 3, "near": 4},
    }
    card = classifier_card(CLASSIFIER | against, ["no", "yes"])
    assert "Without a BERT: TF-IDF + logistic regression macro-F1 0.861, majority class macro-F1 0.100." in card
    assert "Of the 200 test texts 7 are in the training text or nearly so: the test's scores flatter." in card
    assert "the test's scores" not in classifier_card(CLASSIFIER | {"leakage": {"rows": 200, "equal": 0, "near": 0}}, ["no", "yes"])
    assert "transformers (`AutoModelForSequenceClassification.from_pretrained`)" in card
    assert "transformers (`AutoModel.from_pretrained`)" in pretrained()


def test_a_classifier_card_says_how_transformers_alone_answers_and_what_is_different() -> None:
    def card(**facts: Any) -> str:
        return classifier_card(CLASSIFIER | {"max_length": 32} | facts, ["no", "yes"])

    assert 'pipeline("text-classification", ".", truncation=True, max_length=32, top_k=None)\nmodel(["a text"])' in card()
    assert '{"text": "a text", "text_pair": "its second text"}' in card(pairs=True)
    assert (
        "dev taught, 0.750, before. Of a longer text bertlab reads all, in windows.\n"
        in card(long="windows", learnt_on_dev={"temperature": 0.75}) + "\n"
    )
    assert "divides logits" not in card(learnt_on_dev={"temperature": None}) and "divides logits" not in card(learnt_on_dev=None)


def test_what_is_not_known_is_said_not_made_up() -> None:
    corpus = PRETRAINED["corpus"] | {"licences": [""], "sources": [{"name": "mine.txt", "licence": ""}]}
    card = pretrained(heldout=None, corpus=corpus, started_from="another/model", lowercase=False)
    assert set(metadata(card)) == {"library_name", "pipeline_tag", "tags"}
    assert "licence not stated" in card and "No text was held out" in card and "starting from another/model" in card and "(cased)" in card


def test_two_licences_are_not_one() -> None:
    corpus = PRETRAINED["corpus"] | {"licences": ["CC0-1.0", "CC-BY-4.0"]}
    assert "license" not in metadata(pretrained(corpus=corpus))


@pytest.mark.parametrize(
    "licence, known",
    [
        ("CC-BY-SA-4.0", {"license": "cc-by-sa-4.0"}),
        ("CC BY-SA 4.0", {"license": "cc-by-sa-4.0"}),
        ("OpenRAIL++", {"license": "openrail++"}),
        ("Public domain", {"license": "other", "license_name": "public-domain"}),
        ("no", {"license": "other", "license_name": "no"}),
        ("1.0", {"license": "other", "license_name": "1.0"}),
        ("see: the README # all of it", {"license": "other", "license_name": "see-the-readme-all-of-it"}),
        ("a\nb: c", {"license": "other", "license_name": "a-b-c"}),
        ("\u00e9", {"license": "other"}),
        ("---", {"license": "other"}),
        ("x" * 999, {"license": "other", "license_name": "x" * 60}),
    ],
)
def test_a_licence_is_one_of_the_hubs_or_other_with_its_name(licence: str, known: dict[str, str]) -> None:
    read = metadata(pretrained(corpus=PRETRAINED["corpus"] | {"licences": [licence]}))
    assert {name: value for name, value in read.items() if name.startswith("license")} == known


def test_scores_on_test_are_those_of_the_facts_to_the_last_digit_by_the_hubs_names() -> None:
    first, second = results(classifier_card(CLASSIFIER, ["no", "yes"]))
    assert (first.metric_type, first.metric_name, first.metric_value, first.metric_args) == (
        *("f1", "macro-F1", 0.6543210987654321),
        {"average": "macro"},
    )
    assert (second.metric_type, second.metric_name, second.metric_value, second.metric_args) == ("accuracy", "accuracy", 0.7, None)
    for result in (first, second):
        assert (result.task_type, result.dataset_name, result.dataset_type) == ("text-classification", "My test.csv", "my-test")
        assert result.dataset_split == "test" and result.dataset_args == {"sha256": "ef" * 32, "examples": 200}


@pytest.mark.parametrize("name", TASKS)
def test_every_kind_of_task_has_results_that_the_hub_reads(name: str) -> None:
    task = TASKS[name]
    scores: dict[str, Any] = {"n": 7}
    for number, path in enumerate(task.scores.values()):
        inner = scores
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = 0.5 + number / 8
    card = classifier_card(CLASSIFIER | {"task": name, "dev": scores, "test": scores}, ["a", "b"])
    assert metadata(card)["pipeline_tag"] == task.pipeline
    assert [result.metric_value for result in results(card)] == list(task.headlines(scores).values())
    assert {result.metric_type for result in results(card)} <= {"f1", "accuracy", "exact_match", "spearmanr", "pearsonr", "rmse"}


def test_what_came_from_the_hub_is_named_as_the_hub_names_it() -> None:
    sources = [{"name": name, "licence": ""} for name in ("hf:someone/texts:de#train", "hf:someone/texts#test", "mine.txt", "hf:wiki")]
    corpus = PRETRAINED["corpus"] | {"sources": sources, "languages": ["de"]}
    read = metadata(pretrained(corpus=corpus, started_from="hf:google-bert/bert-base-german-cased"))
    assert read["datasets"] == ["someone/texts", "wiki"] and read["base_model"] == ["google-bert/bert-base-german-cased"]
    assert read["language"] == ["de"]
    assert metadata(encoder_card(ENCODER))["base_model"] == ["someone/a-bert"]
    assert "base_model" not in metadata(classifier_card(CLASSIFIER, ["a", "b"]))
    assert on_the_hub(["hf:", "hf:a b", "hf:../x", "hf:a/b/c", "hf:a\nb", "/hf:a", ""]) == []


@pytest.mark.parametrize(
    "settings, languages",
    [
        ({}, []),
        ({"language": "en"}, []),
        ({"language": "de"}, ["de"]),
        ({"language": "en", "cleaning": {"language": "en"}}, ["en"]),
        ({"language": "de", "cleaning": {"language": None}}, ["de"]),
    ],
)
def test_a_language_is_stated_where_somebody_chose_one(settings: dict[str, Any], languages: list[str], corpus_of: Any) -> None:
    state = {"tokens_seen": 1, "skipped": 0, "seconds": 1.0, "heldout": [], "best": None}
    corpus, model = corpus_of(settings)
    facts = pretraining_facts(corpus, model, state, steps=1, started_from=None, text_read=[])
    assert metadata(pretrained_card(facts)).get("language", []) == languages
    assert "language" not in metadata("\n".join([*front_matter("fill-mask", languages=["deutsch", "", "DE"]), "# x\n"]))


@pytest.fixture
def corpus_of() -> Any:
    """A corpus with these settings in its manifest, and a model, as far as facts are taken from them."""
    counts, tokenizer = SimpleNamespace(num_documents=3, num_tokens=9), SimpleNamespace(sha256="0", vocab_size=5, lowercase=True)
    model = SimpleNamespace(parameters=lambda: [], config=SimpleNamespace(num_hidden_layers=1, hidden_size=2))
    source = {"name": "a.txt", "licence": ""}

    def made(settings: dict[str, Any]) -> Any:
        manifest = {"sources": [source], "settings": settings}
        return SimpleNamespace(manifest=manifest, sha256="0", train=counts, tokenizer=tokenizer), model

    return made


HOSTILE = [
    *("a: b", "a\n---\nb: c", "- x", "---", "...", "# x", "? x", "!!python/object:os.system x", "&a", "*a", "{a: b}", "[a]", "%TAG x"),
    *("@x", "'", '"', "yes", "null", "1e3", "0x1f", "  x ", "|", ">", "\t", "\x00", "\x1b[2J", "\x85", "\u2028", "\u202e", "\ud800"),
    *("\ufeff", "x" * 5000, "![x](https://x.example/a.png)", "[x](javascript:1)", "<img src=//x.example>", "<script>1</script>"),
    *("`x`", "```", "**x**", "_x_", "~~x~~", "1. x", "12) x", "+ x", "=", "    x", "a | b", "$$x$$", "\\", "</a>", "&lt;b&gt;"),
    *("![x][y]", "__init__.py", "my_file_2.csv", "\U0001f440"),
]


@pytest.mark.parametrize("evil", HOSTILE)
def test_no_name_label_or_licence_is_mark_up_or_another_key(evil: str) -> None:
    """Of files, sources, classes, licences and origins: the card has the keys and elements that it has with harmless ones."""

    def cards(name: str) -> list[str]:
        corpus = PRETRAINED["corpus"] | {"sources": [{"name": name, "licence": name}], "licences": [name], "languages": [name]}
        data = {"test": {"name": name, "sha256": "0"}}
        test = VECTORS["test"] | {"what": name}
        return [
            pretrained(corpus=corpus, started_from=name),
            classifier_card(CLASSIFIER | {"data": data, "started_from": name}, ["a", name]),
            vectors_card(VECTORS | {"started_from": name, "test": test}),
            encoder_card(ENCODER | {"made_from": {"path": name}}),
            exported_card(EXPORTED | {"labels": ["O", name]}),
        ]

    for harmless, card in zip(cards("a.name"), cards(evil), strict=True):
        card.encode("utf-8")
        assert set(metadata(card)) - {"license_name", "language"} == set(metadata(harmless)) - {"license_name", "language"}
        assert metadata(card).get("language", ["yes"]) == ["yes"]  # three letters may be a language: a text, and no truth value
        assert [result.metric_value for result in results(card)] == [result.metric_value for result in results(harmless)]
        assert elements(card) == elements(harmless)


def elements(card: str) -> list[str]:
    """The elements of the card below its metadata, in order, as a renderer of Markdown with tables and raw HTML finds them."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(ModelCard(card).text)
    found = [child.type for token in tokens for child in [token, *(token.children or [])]]
    return [kind for kind in found if kind not in ("text", "text_special", "softbreak")]


def test_a_name_is_read_as_it_is() -> None:
    """The escapes are not seen where the card is read."""
    for name in ("my_file_2.csv", "__init__.py", "![x](y)", "1. x", "a*b|c", "<b>&amp;"):
        sources = [{"name": name, "licence": ""}]
        tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(pretrained(corpus=PRETRAINED["corpus"] | {"sources": sources}))
        read = ["".join(child.content for child in token.children) for token in tokens if token.children]
        assert f"{name} (licence not stated)" in read


def test_folders_of_vectors_and_of_onnx_say_which_library_opens_them() -> None:
    for card in (vectors_card(VECTORS), encoder_card(ENCODER)):
        read = metadata(card)
        assert read["library_name"] == "sentence-transformers" and "sentence-transformers" in read["tags"]
    read = metadata(exported_card(EXPORTED))
    assert "library_name" not in read and "onnx" in read["tags"] and read["pipeline_tag"] == "token-classification"


def test_many_classes_are_not_all_named() -> None:
    card = classifier_card(CLASSIFIER, [f"class {number}" for number in range(80)])
    assert "80 classes: class 0," in card and "class 49 ..." in card and "class 50" not in card


def test_a_card_of_vectors_says_how_they_are_made_and_what_training_was_worth():
    card = vectors_card(VECTORS | {"dev": VECTORS["test"]})
    assert metadata(card)["pipeline_tag"] == "sentence-similarity"
    assert [(result.metric_type, result.metric_value) for result in results(card)] == [("mrr", 0.1733), ("recall@1", 0.0801)]
    assert "12,345 pairs, 64 a step, 100 steps, temperature 0.05; the weights of step 80" in card
    assert "mean of the tokens' states, of length 1. Made to be cut (Matryoshka): the first 128, 64 numbers." in card
    line = "MRR 0.113 -> 0.173, difference +0.060 (95 % interval +0.037 to +0.084), first 4.2% -> 8.0%, n = 427"
    assert f"Test, the first &lt;b&gt; finds the second: {line}." in card
    assert "length 1" not in vectors_card(VECTORS | {"normalize": False}) and "Matryoshka" not in vectors_card(
        VECTORS | {"matryoshka_dims": []}
    )


def test_text_that_the_weights_have_read_goes_with_them_with_its_licence() -> None:
    read = CLASSIFIER["text_read"]
    of_onnx = exported_card(EXPORTED | {"text_read": read, "quantised": {"lost": 0}})
    for card in (classifier_card(CLASSIFIER, ["no", "yes"]), vectors_card(VECTORS), encoder_card(ENCODER | {"text_read": read}), of_onnx):
        assert "## Text of the pretraining\n\n- hf:someone/acts (CC-BY-SA-4.0)\n- mine.txt (licence not stated)\n" in card
        assert metadata(card)["datasets"] == ["someone/acts"] and "license" not in metadata(
            card
        )  # whose the labelled texts are nobody said
    assert "## Text of" not in encoder_card(ENCODER) + exported_card(EXPORTED)
    on_corpus = vectors_card(VECTORS | {"corpus": {"sources": [{"name": "hf:someone/more", "licence": "MIT"}]}})
    assert "- mine.txt (licence not stated)\n\n## Training text\n\n- hf:someone/more (MIT)\n" in on_corpus
    assert metadata(on_corpus)["datasets"] == ["someone/acts", "someone/more"] and "## Training text" not in vectors_card(VECTORS)
    more = pretrained(started_from="RUN/model", text_read=read)
    assert "- hf:someone/acts (CC-BY-SA-4.0)\n- mine.txt (licence not stated)\n- articles.jsonl.xz (CC-BY-SA-4.0)\n" in more
    assert "license" not in metadata(more) and metadata(pretrained())["license"] == "cc-by-sa-4.0"
    assert metadata(pretrained(text_read=read[:1]))["license"] == "cc-by-sa-4.0"  # both the same

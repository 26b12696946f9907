"""bertlab corpus: each planted fault is found with the number that was planted, a healthy corpus gives no warning."""

import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers as backends
from tokenizers import decoders, models, normalizers, pre_tokenizers

from bertlab.corpus.identity import normalised_sha256
from bertlab.errors import ConfigError, CorruptError
from bertlab.pages.doctor import page, screen
from bertlab.tokens.corpus import write_manifest
from bertlab.tokens.shards import ShardWriter
from bertlab.tokens.tokenizer import SPECIAL_TOKENS, Tokenizer
from bertlab.verbs import prepare
from bertlab.verbs.corpus import Config, run

LETTERS = "bcdfghjklmnpqrstvwxz"
WORDS = [a + b + c for a in LETTERS for b in "aeiou" for c in LETTERS]  # 2,000 words, each one piece


def words_tokenizer(words: Sequence[str]) -> Tokenizer:
    vocabulary = {word: id for id, word in enumerate([*SPECIAL_TOKENS, *words])}
    backend = backends.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return Tokenizer(backend, "made here")


def write_corpus(folder: Path, tokenizer: Tokenizer, splits: dict[str, list[list[str]]], **manifest: Any) -> Path:
    """A corpus folder of documents given as their sentences, with the manifest that `bertlab prepare` would write, but for `manifest`."""
    tokenizer.save(folder / "tokenizer", max_length=512)
    for name, documents in splits.items():
        writer = ShardWriter(folder / name, tokenizer.id_dtype)
        for number, sentences in enumerate(documents):
            ids, offsets = tokenizer.encode(sentences)
            writer.add(f"{name}:{number}", "words.txt", normalised_sha256("\n".join(sentences)), ids, np.diff(offsets))
        writer.close()
    words = sum(len(sentence.split()) for documents in splits.values() for sentences in documents for sentence in sentences)
    kept = sum(map(len, splits.values()))
    facts: dict[str, Any] = {
        "sources": [
            {
                "name": "words.txt",
                "files": [{"name": "words.txt", "bytes": 1234, "sha256": "0" * 64}],
                "licence": "CC0",
                "weight": 1.0,
                "documents": {"in": 20, "kept": 14},
            }
        ],
        "filters": {"in": kept, "kept": kept, "dropped": {"duplicate": 0}, "invalid_utf8_places": 0},
        "counts": {"words": words},
    }
    write_manifest(folder, facts | manifest)
    return folder


def some_words(number: int, seed: int) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, number).tolist())


REPEATED = "bab cab dab fab"
OVER_LONG = some_words(60, 1)
SINGLE = [[some_words(6, 10 + number)] for number in range(4)]
TRAIN = [
    *[[some_words(5, 100 + number), some_words(5, 200 + number), REPEATED] for number in range(6)],  # 18 sentences, 84 tokens
    *SINGLE,  # 4 sentences, 24 tokens
    [OVER_LONG, "bab \u2603 cab \u2604 dab"],  # 2 sentences, 65 tokens; 2 of them unknown
]
HELDOUT = [[OVER_LONG, REPEATED], [some_words(5, 301), some_words(11, 302)], SINGLE[0]]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = write_corpus(
        tmp_path_factory.mktemp("faulty") / "planted",
        words_tokenizer(WORDS),
        {"train": TRAIN, "heldout": HELDOUT},
        filters={"in": 20, "kept": 14, "dropped": {"empty": 1, "duplicate": 5}, "invalid_utf8_places": 3},
    )
    return run(Config(corpus=str(folder), lengths=(16, 32)))


def test_sizes_are_those_of_the_planted_corpus(faulty: dict[str, Any]) -> None:
    assert [faulty["train"][name] for name in ("documents", "sentences", "tokens")] == [11, 24, 173]
    assert [faulty["heldout"][name] for name in ("documents", "sentences", "tokens")] == [3, 5, 86]
    assert faulty["words"] == 259 and faulty["tokens_a_word"] == 1.0
    assert faulty["train"]["sentences_a_document"]["bins"] == [[1, 1, 4], [2, 3, 7]]
    assert faulty["train"]["tokens_a_sentence"]["bins"] == [[4, 7, 23], [8, 15, 0], [16, 31, 0], [32, 63, 1]]
    assert faulty["filters"]["in"] == faulty["filters"]["kept"] + sum(faulty["filters"]["dropped"].values())
    origin = {"name": "words.txt", "licence": "CC0", "weight": 1.0, "documents": {"in": 20, "kept": 14}, "files": 1, "bytes": 1234}
    assert faulty["origins"] == [origin]
    assert faulty["sources"]["sources"] == [{"name": "words.txt", "documents": 11, "tokens": 173, "share": 1.0}]


def test_every_planted_fault_is_found_with_its_number(faulty: dict[str, Any]) -> None:
    wrong = {finding["name"]: finding["value"] for finding in faulty["findings"] if finding["is_wrong"]}
    planted = {
        "documents on both sides": 1,
        "held-out sentences in the training text": 1 / 2,
        "size": 173,
        "single-sentence documents": 4 / 11,
        "a repeated sentence": 6 / 24,
        "repeated text": 5 / 24,
        "text beyond the longest pair": (60 - 28) / 173,  # 32 places less [CLS], two [SEP] and one token of B
        "unknown tokens": 2 / 173,
        "unused vocabulary": (2000 - len({word for document in TRAIN for text in document for word in text.split()} & set(WORDS))) / 2000,
        "damaged bytes": 3 / 259,
    }
    assert {name: wrong[name] for name in planted} == planted
    assert set(wrong) - set(planted) <= {"next-sentence answers", "text left out of an epoch"}  # follow from the others


def test_the_repeated_sentence_is_named_and_what_is_held_out_compared(faulty: dict[str, Any]) -> None:
    (first,) = faulty["repeated"]["most_frequent"]
    assert (first["text"], first["count"], first["share"]) == (REPEATED, 6, 0.25)
    assert faulty["overlap"] == {
        "documents": 1,
        "counted_share": 1.0,
        "sentences": 5,
        "in_train": 3,
        "long_sentences": 2,
        "long_in_train": 1,
    }
    assert [(pairs["max_length"], pairs["long_sentences"], pairs["over_long"]) for pairs in faulty["pairs"]] == [(16, 1, 48), (32, 1, 32)]


def test_samples_are_decoded(faulty: dict[str, Any]) -> None:
    assert {sample["id"] for sample in faulty["sample_documents"]} == {f"train:{number}" for number in range(11)}
    texts = {sample["id"]: sample["text"] for sample in faulty["sample_documents"]}
    assert texts["train:3"] == " ".join(TRAIN[3])
    assert texts["train:10"].endswith("...") is False and len(texts["train:10"]) == 200
    assert len(faulty["sample_pairs"]) == 12


def test_the_same_corpus_gives_the_same_facts_and_they_are_json(faulty: dict[str, Any], tmp_path: Path) -> None:
    splits = {"train": TRAIN, "heldout": HELDOUT}
    folder = write_corpus(tmp_path / "healthy", words_tokenizer(WORDS), splits)
    written = tmp_path / "out" / "facts.json"
    facts = run(Config(corpus=str(folder), json=str(written)))
    again = run(Config(corpus=str(folder)))
    assert facts == again == json.loads(written.read_text())
    json.dumps(faulty, allow_nan=False)


def test_a_healthy_corpus_gives_no_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = np.random.default_rng(0)

    def documents(number: int) -> list[list[str]]:
        drawn = draw.choice(WORDS, (number, 10, 25))
        return [[" ".join(sentence) for sentence in document] for document in drawn.tolist()]

    folder = write_corpus(tmp_path / "healthy", words_tokenizer(WORDS), {"train": documents(4100), "heldout": documents(100)})
    facts = run(Config(corpus=str(folder)))
    assert [finding["name"] for finding in facts["findings"] if finding["is_wrong"]] == []
    assert facts["train"]["tokens"] == 1_025_000
    assert facts["read_back"]["own"]["tokens_a_word"] == 1.0
    shown = capsys.readouterr().out
    assert "0 WARNINGS\nnothing to warn of" in shown


def test_a_corpus_as_prepare_writes_it_with_nothing_held_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("The mill runs. It runs well.\n\nThe mill stands.\n\nthe MILL stands.\n\nNobody sings there. Why?\n")
    prepare.run(prepare.Config(source=(str(tmp_path / "text.txt"),), out=str(tmp_path / "corpus"), vocab_size=100, heldout=0.0))
    facts = run(Config(corpus=str(tmp_path / "corpus"), html=str(tmp_path / "page.html")))
    assert facts["filters"]["dropped"]["duplicate"] == 1
    assert facts["heldout"] is facts["overlap"] is None
    assert facts["read_back"]["split"] == "train"
    wrong = [finding["name"] for finding in facts["findings"] if finding["is_wrong"]]
    assert "held-out text" in wrong and "single-sentence documents" in wrong
    assert "Nothing is held out." in capsys.readouterr().out
    HTMLParser().feed((tmp_path / "page.html").read_text(encoding="utf-8"))


def test_another_vocabulary_is_compared_on_the_decoded_text(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "planted", words_tokenizer(WORDS), {"train": TRAIN, "heldout": HELDOUT})
    words_tokenizer(["bab", "c", "##ab", "dab"]).save(tmp_path / "other", max_length=512)
    facts = run(Config(corpus=str(folder), compare=str(tmp_path / "other")))
    compared, own = facts["read_back"]["compared"], facts["read_back"]["own"]
    words = [word for document in HELDOUT for text in document for word in text.split()]
    known = {"bab": 1, "cab": 2, "dab": 1}
    assert own["tokens"] == len(words) == facts["read_back"]["words"] == 86
    assert compared["tokens"] == sum(known.get(word, 1) for word in words)
    assert compared["unknown"] == sum(word not in known for word in words)
    assert facts["read_back"]["compared_with"] == f"{tmp_path.name}/other"
    assert f"{tmp_path.name}/other" in page(facts) and str(tmp_path) not in page(facts)


def test_a_published_vocabulary_is_taken_as_vocab_txt(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "planted", words_tokenizer(WORDS), {"train": TRAIN, "heldout": HELDOUT})
    (tmp_path / "bert").mkdir()
    vocabulary = tmp_path / "bert" / "vocab.txt"
    vocabulary.write_text("\n".join([*SPECIAL_TOKENS, "bab", "dab"]) + "\n")
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    for given in (vocabulary, vocabulary.parent):
        facts = run(Config(corpus=str(folder), compare=str(given)))
        assert facts["read_back"]["compared"]["vocab_size"] == 7
        assert facts["read_back"]["compared"]["tokens"] == 86


@pytest.mark.parametrize("settings", [{"lengths": ()}, {"lengths": (128, 7)}, {"samples": -1}, {"samples": 1001}, {"seed": -1}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(corpus="a", **settings)
    assert "\n" not in str(caught.value)


def test_what_is_no_corpus_or_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bertlab prepare"):
        run(Config(corpus=str(tmp_path)))
    folder = write_corpus(tmp_path / "planted", words_tokenizer(WORDS), {"train": TRAIN})
    with pytest.raises(ConfigError, match="no tokenizer there"):
        run(Config(corpus=str(folder), compare=str(tmp_path)))
    shard = next((folder / "train").glob("*.arrow"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(CorruptError, match="arrow"):
        run(Config(corpus=str(folder)))


def test_the_page_is_written_whole_and_of_the_same_facts(tmp_path: Path, faulty: dict[str, Any]) -> None:
    folder = write_corpus(tmp_path / "planted", words_tokenizer(WORDS), {"train": TRAIN, "heldout": HELDOUT})
    facts = run(Config(corpus=str(folder), html=str(tmp_path / "page.html")))
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page(facts)
    assert "25.00 %" in page(facts) and "25.00 %" in screen(faulty)

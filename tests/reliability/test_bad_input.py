"""Text and labels as they come (F18, F21): whatever a file holds, there is a result that counts what was done, or one line.

What each reader does with each such thing is tested beside it (tests/corpus); here it goes through the whole of a command.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bertlab.tokens.corpus import open_corpus
from tests.reliability.conftest import Server, mistakes

Tally = Callable[[str, str, int, int], None]

# name -> the bytes of a document, and whether it is kept
DOCUMENTS: dict[str, tuple[bytes, bool]] = {
    "invalid UTF-8": (b"The mill \xff\xfe\xc3( of the town.", True),
    "a byte order mark": (b"\xef\xbb\xbfThe mill has a mark.", True),
    "NUL": (b"The \0mill\0 of nulls.", True),
    "C0 and C1": (b"The \x01\x02\x1b[31m mill \xc2\x80\xc2\x9f is red.", True),
    "U+2028": ("The mill\u2028and the\u2029river.".encode(), True),
    "a lone carriage return": (b"The mill\rand a river.", True),
    "CRLF": (b"The mill\r\nand rivers.", True),
    "5,000 combining marks": (("The mill e" + "\u0301\u0323" * 2500 + " is marked.").encode(), True),
    "zero width": ("The mi\u200bll\u200d has \ufeffno width\u2060.".encode(), True),
    "bidi": ("The \u202emill\u202c is \u2066turned\u2069.".encode(), True),
    "special tokens": (b"[CLS] the mill [SEP] [MASK] [PAD]", True),
    "a word of 8 MB": (b"x" * 8_000_000, True),
    "8 MB of marks": (b"." * 8_000_000, True),
    "surrogates in UTF-8": (b"The mill \xed\xa0\x80 is lone.", True),
    "empty": (b"", False),
    "blank": (" \t\u00a0\u3000 ".encode(), False),
    "nothing to see": ("\u200b\u0301\u202e".encode(), False),
}
GOOD = ["The first town has a mill.", "The second town has a bridge."]


@pytest.mark.parametrize("ending", ["txt", "jsonl"])
def test_no_text_breaks_a_corpus_and_every_document_is_counted(
    server: Server, tmp_path: Path, ending: str, trials: Callable[[int, int], int], tally: Tally
) -> None:
    wrong: list[str] = []
    for number, (name, (data, kept)) in enumerate(DOCUMENTS.items()):
        if ending != "txt":  # the reader differs, the seconds of a megabyte behind it do not
            data = data[: trials(2_000_000, 8_000_000)]
        source, out, log = tmp_path / f"{number}.{ending}", tmp_path / f"corpus-{number}", tmp_path / f"log-{number}"
        if ending == "txt":
            source.write_bytes("\n\n".join(GOOD).encode() + b"\n\n" + data)
        else:
            escaped = [json.dumps({"text": text}) for text in (*GOOD, data.decode(errors="surrogateescape"))]
            source.write_text("\n".join(escaped))
        code = server.wait(server.start(["prepare", f"source={source}", f"out={out}", "vocab_size=100", "heldout=0"], log))
        if code != 0 or mistakes(log.read_text()):
            wrong.append(f"{name}: exit code {code}: {log.read_text()[-500:]}")
            continue
        corpus = open_corpus(str(out))
        counts = corpus.manifest["filters"]
        if counts["in"] != counts["kept"] + sum(counts["dropped"].values()) or counts["kept"] != 2 + kept:
            wrong.append(f"{name}: {counts}")
        elif corpus.train.num_documents != counts["kept"] or corpus.train.token_counts(corpus.tokenizer.vocab_size)[:1].sum():
            wrong.append(f"{name}: {corpus.train.num_documents} documents")
    tally("F18", f"bad text in .{ending}: a corpus, and every document counted", len(DOCUMENTS) - len(wrong), len(DOCUMENTS))
    assert not wrong


def test_another_encoding_is_one_line(server: Server, tmp_path: Path) -> None:
    for encoding in ("utf-16", "utf-32"):
        (tmp_path / "text.txt").write_bytes("\n\n".join(GOOD).encode(encoding))
        log = tmp_path / encoding
        assert server.wait(server.start(["prepare", f"source={tmp_path / 'text.txt'}", f"out={tmp_path / 'corpus'}"], log)) == 3
        (line,) = mistakes(log.read_text())
        assert "UTF-16" in line and "text.txt:1" in line and not (tmp_path / "corpus").exists()


# name -> train rows, test rows, and the exit code
LABELS: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]], int]] = {
    "one example of each class": ([("the old mill", "a"), ("a new bridge", "b")], [("the mill", "a"), ("the bridge", "b")], 0),
    "a test of one class": ([("the old mill", "a"), ("a new bridge", "b")] * 4, [("the mill", "a"), ("the bridge", "a")], 0),
    "no text at all": ([("", "a"), ("", "b")] * 4, [("", "a"), ("", "b")], 0),
    "label -1": ([("the old mill", "-1"), ("a new bridge", "1")] * 4, [("the mill", "-1")], 0),
    "a label unseen in train": ([("the old mill", "a"), ("a new bridge", "b")] * 4, [("the mill", "c")], 3),
    "a single class": ([("the old mill", "a"), ("a new bridge", "a")] * 4, [("the mill", "a")], 3),
}


def test_no_labels_break_a_fine_tuning(server: Server, inputs: dict[str, str], tmp_path: Path, tally: Tally) -> None:
    wrong: list[str] = []
    for number, (name, (train, test, wanted)) in enumerate(LABELS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        for split, rows in (("train", train), ("dev", train), ("test", test)):
            (folder / f"{split}.jsonl").write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
        arguments = [f"{split}={folder / split}.jsonl" for split in ("train", "dev", "test")]
        arguments += [f"model={inputs['model']}", f"out={folder / 'run'}", "epochs=1", "seeds=1", "device=cpu", "max_length=16"]
        code = server.wait(server.start(["finetune", *arguments], folder / "log"))
        said = (folder / "log").read_text()
        if code != wanted or len(mistakes(said)) != (wanted != 0) or "Traceback" in said:
            wrong.append(f"{name}: exit code {code}: {said[-800:]}")
        elif wanted == 0:
            metrics = json.loads((folder / "run" / "metrics.json").read_text())["test"]
            if not 0 <= metrics["macro"]["f1"] <= 1 or not 0 <= metrics["accuracy"] <= 1:
                wrong.append(f"{name}: {metrics}")
    tally("F21", "bad labels: a result, or one line", len(LABELS) - len(wrong), len(LABELS))
    assert not wrong

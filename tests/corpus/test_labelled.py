"""Labelled examples: read alike from every kind of file, told apart by text hash, never on two sides."""

import gzip
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertlab.corpus.identity import normalised_sha256
from bertlab.corpus.labelled import Labelled, cut_dev, label_column, overlap, read_labelled
from bertlab.corpus.labels import has_decimal_comma, label_ids, label_names, numbers, set_ids, set_names
from bertlab.errors import ConfigError, DataError


def made(texts: list[str], labels: list[str] | None, texts_b: list[str] | None = None) -> Labelled:
    return Labelled([f"made:{number}" for number in range(len(texts))], texts, texts_b, labels, "made.csv")


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# ---- reading


def test_every_kind_of_file_gives_the_same_examples(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('id,text,label\nk1,"NA",good\nk2,"a, b [SEP]",bad\n')
    (tmp_path / "t.tsv").write_text("label\ttext\tid\tother\ngood\tNA\tk1\t\nbad\ta, b [SEP]\tk2\t\n")
    rows = [{"id": "k1", "text": "NA", "label": "good"}, {"id": "k2", "text": "a, b [SEP]", "label": "bad"}]
    write_jsonl(tmp_path / "t.jsonl", rows)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    for name in ("t.csv", "t.tsv", "t.jsonl", "t.parquet"):
        expected = Labelled(["k1", "k2"], ["NA", "a, b [SEP]"], None, ["good", "bad"], str(tmp_path / name))
        assert read_labelled(tmp_path / name) == expected
        assert len(expected) == 2


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "jsonl.gz", "parquet"])
def test_the_column_of_numbers_is_score_or_label_and_where_both_are_nobody_guesses(tmp_path: Path, suffix: str) -> None:
    def file(*columns: str) -> Path:
        path = tmp_path / f"{'-'.join(columns)}.{suffix}"
        rows = [dict.fromkeys(columns, str(number)) for number in (1, 2)]
        lines = [json.dumps(row) for row in rows] if "json" in suffix else [columns, *(row.values() for row in rows)]
        text = "".join((line if isinstance(line, str) else ("," if suffix == "csv" else "\t").join(line)) + "\n" for line in lines)
        if suffix == "parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        else:
            path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
        return path

    score, label, both, neither = file("text", "score"), file("text", "label"), file("text", "score", "label"), file("text", "y")
    assert [label_column(path, None, scored=True) for path in (score, label, neither)] == ["score", "label", "score"]
    with pytest.raises(DataError, match=r"columns 'score' and 'label' are both here: name the one with the numbers \(--label\)"):
        label_column(both, None, scored=True)
    assert label_column(both, "label", scored=True) == "label"
    assert [label_column(path, None) for path in (score, label, both, neither)] == ["score", "label", "label", "label"]


def test_a_file_that_nobody_can_read_is_left_to_its_reader(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("{")
    (tmp_path / "t.txt").write_text("label score")
    for name in ("t.jsonl", "t.txt", "absent.csv"):
        assert (label_column(tmp_path / name, None), label_column(tmp_path / name, None, scored=True)) == ("label", "score")


def test_columns_go_by_other_names_and_an_id_is_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,y,text_b\nhow,who,1,x\nwhen,where,0,y\n")
    read = read_labelled(tmp_path / "t.csv", text="a", text_b="b", label="y")
    assert read == Labelled(["t.csv:2", "t.csv:3"], ["how", "when"], ["who", "where"], ["1", "0"], str(tmp_path / "t.csv"))


def test_a_second_text_is_used_where_there_is_one_and_demanded_where_it_is_named(tmp_path: Path) -> None:
    pair = write_jsonl(tmp_path / "pair.jsonl", [{"text": "a", "text_b": "b", "label": "x"}])
    single = write_jsonl(tmp_path / "single.jsonl", [{"text": "a", "label": "x"}])
    assert read_labelled(pair).texts_b == ["b"]
    assert read_labelled(single).texts_b is None
    with pytest.raises(DataError, match=r"single\.jsonl:1: no column 'text_b'"):
        read_labelled(single, text_b="text_b")
    for rows in ([{"text": "a", "label": "x"}, {"text": "a", "text_b": "b", "label": "x"}],):
        with pytest.raises(DataError, match=r"mixed\.jsonl:2: column 'text_b' is here and not in the rows before"):
            read_labelled(write_jsonl(tmp_path / "mixed.jsonl", rows))
        with pytest.raises(DataError, match=r"mixed\.jsonl:2: this row has no 'text_b'"):
            read_labelled(write_jsonl(tmp_path / "mixed.jsonl", rows[::-1]))


def test_labels_become_text_as_json_writes_them(tmp_path: Path) -> None:
    values = [True, False, 1, 1.0, "1", "True", "NA", " x"]
    path = write_jsonl(tmp_path / "t.jsonl", [{"text": "a", "label": value} for value in values])
    assert read_labelled(path).labels == ["true", "false", "1", "1.0", "1", "True", "NA", " x"]


@pytest.mark.parametrize("value", [None, "", "  ", float("nan")])
def test_a_row_without_a_label_is_told_by_file_and_line(tmp_path: Path, value: Any) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", [{"text": "a", "label": "x"}, {"text": "b", "label": value}])
    with pytest.raises(DataError, match=r"t\.jsonl:2: the label in column 'label' is empty"):
        read_labelled(path)
    assert read_labelled(path, needs_label=False).labels is None


def test_without_need_of_a_label_the_column_may_be_missing_and_a_line_of_text_is_an_example(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text\na\n")
    with pytest.raises(DataError, match=r"t\.csv:1: no column 'label': the columns are 'text'"):
        read_labelled(tmp_path / "t.csv")
    assert read_labelled(tmp_path / "t.csv", needs_label=False).labels is None
    (tmp_path / "t.txt").write_text("one [MASK]\n\nthree\n")
    with pytest.raises(DataError, match="a text file has no labels"):
        read_labelled(tmp_path / "t.txt")
    read = read_labelled(tmp_path / "t.txt", needs_label=False)
    assert (read.ids, read.texts) == (
        ["t.txt:1", "t.txt:2", "t.txt:3"],
        ["one [MASK]", "", "three"],
    )  # a line is a row: order and place are kept


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na,x\nb\n", r"t\.csv:3: 1 cells where the header has 2"),
        ("text,label\n", r"t\.csv: no rows"),
        ("body,label\na,x\n", r"t\.csv:1: no column 'text': the columns are 'body', 'label'"),
        ("text,label\na,x\n\udcff,x\n", r"t\.csv:3: not valid UTF-8"),
        ("", r"t\.csv: no header row"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_by_file_and_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=message):
        read_labelled(tmp_path / "t.csv")


def test_a_label_that_is_a_list_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.jsonl:1: the label is a list"):
        read_labelled(write_jsonl(tmp_path / "t.jsonl", [{"text": "a", "label": ["x"]}]))
    with pytest.raises(ConfigError, match="does not exist"):
        read_labelled(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="is a folder"):
        read_labelled(tmp_path)


# ---- labels


def test_label_names_are_in_order_of_number_when_all_are_integers() -> None:
    assert label_names(made(["a"] * 4, ["10", "9", "-1", "9"])) == ["-1", "9", "10"]
    assert label_names(made(["a"] * 4, ["10", "9", "x", "9"])) == ["10", "9", "x"]


@pytest.mark.parametrize(("labels", "message"), [(["x", "x"], "one label, 'x' in 2 rows"), (None, "no label in 2 rows")])
def test_one_class_is_no_classification(labels: list[str] | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        label_names(made(["a", "b"], labels))


def test_a_label_that_train_has_not_is_named_with_its_file_and_the_known_ones() -> None:
    assert label_ids(made(["a", "b", "c"], ["y", "x", "y"]), ["x", "y"]) == [1, 0, 1]
    with pytest.raises(DataError, match=r"made\.csv: label 'z' \(example made:1\) is not one that train has: 'x', 'y'"):
        label_ids(made(["a", "b"], ["x", "z"]), ["x", "y"])
    with pytest.raises(DataError, match="no labels"):
        label_ids(made(["a"], None), ["x", "y"])


# ---- splits


def test_the_hash_is_of_the_text_and_of_both_texts_of_a_pair() -> None:
    assert made(["A  b"], ["x"]).text_hashes() == [normalised_sha256("a b")]
    pairs = [("a b", "c"), ("a", "b c"), ("a b c", ""), ("", "a b c"), ("A b ", " C")]
    hashes = made([a for a, _ in pairs], None, [b for _, b in pairs]).text_hashes()
    assert len(set(hashes)) == 4
    assert hashes[0] == hashes[4]


def test_a_subset_keeps_all_columns_in_the_order_asked_for() -> None:
    whole = made(["a", "b", "c"], ["x", "y", "z"], ["d", "e", "f"])
    assert whole.subset([2, 0]) == Labelled(["made:2", "made:0"], ["c", "a"], ["f", "d"], ["z", "x"], "made.csv")


def test_the_dev_split_is_stratified_and_follows_from_the_texts_alone() -> None:
    labels = ["x"] * 100 + ["y"] * 30 + ["z"] * 5 + ["w"]
    whole = made([f"text {number}" for number in range(136)], labels)
    train, dev = cut_dev(whole, 0.1, label_ids(whole, label_names(whole)))
    assert dev.labels is not None
    assert Counter(dev.labels) == {"x": 10, "y": 3, "z": 1}  # floor of the share, at least one, and the only "w" stays in train
    assert len(train) + len(dev) == len(whole)
    order = list(range(136))
    random.Random(2).shuffle(order)
    _, dev_of_shuffled = cut_dev(whole.subset(order), 0.1, label_ids(whole.subset(order), label_names(whole)))
    assert set(dev_of_shuffled.texts) == set(dev.texts)


def test_a_text_of_two_labels_counts_under_the_lowest_whichever_row_comes_first() -> None:
    rows = [(f"text {number % 60}", "y" if number < 60 else "x") for number in range(100)]  # forty texts have both labels
    for share, of_both, of_one in ((0.1, 4, 2), (0.2, 8, 4), (0.4, 16, 8), (0.5, 20, 10)):  # of the forty, and of the twenty y alone
        for order in (rows, rows[::-1]):
            whole = made([text for text, _ in order], [label for _, label in order])
            dev = {*cut_dev(whole, share, label_ids(whole, ["x", "y"]))[1].texts}
            both = {text for text in dev if int(text.split()[1]) < 40}
            assert (len(both), len(dev - both)) == (of_both, of_one)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "A ", "b", "c", "d d", "D  d"]), st.sampled_from("xyz")), min_size=1), st.floats(0.01, 0.99)
)
def test_equal_texts_are_never_on_two_sides(rows: list[tuple[str, str]], share: float) -> None:
    whole = made([text for text, _ in rows], [label for _, label in rows])
    try:
        train, dev = cut_dev(whole, share, label_ids(whole, ["x", "y", "z"]))
    except DataError:
        return
    assert overlap(train, dev) == overlap(dev, train) == 0
    assert len(train) > 0
    assert len(dev) > 0
    assert sorted(train.ids + dev.ids) == sorted(whole.ids)


def test_a_dev_split_needs_a_share_and_two_texts() -> None:
    with pytest.raises(ConfigError, match="dev share is 0"):
        cut_dev(made(["a", "b"], ["x", "y"]), 0, [0, 1])
    with pytest.raises(DataError, match="too little to cut a dev split from"):
        cut_dev(made(["a", "b", "A"], ["x", "y", "x"]), 0.5, [0, 1, 0])


def test_overlap_counts_the_rows_of_the_second_whose_text_is_in_the_first() -> None:
    assert overlap(made(["a", "b", "b"], None), made(["B ", "b", "c"], None)) == 2


# ---- lists of labels, and numbers


def test_lists_of_labels_are_read_from_lists_and_from_cells(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", [{"text": "a", "label": label} for label in (["x", "y"], [], "z", ["y", 2, "y"])])
    read = read_labelled(path, sets=True)
    assert read.labels is None and read.label_sets == [("x", "y"), (), ("z",), ("y", "2")]
    assert read.subset([3, 0]).label_sets == [("y", "2"), ("x", "y")]
    (tmp_path / "t.csv").write_text("text,label\na,x | y\nb,\nc,z\n")
    assert read_labelled(tmp_path / "t.csv", sets=True, label_separator="|").label_sets == [("x", "y"), (), ("z",)]
    with pytest.raises(DataError, match=r"t\.csv:3: the label in column 'label' is empty"):
        read_labelled(tmp_path / "t.csv", sets=True)
    single = write_jsonl(tmp_path / "s.jsonl", [{"text": "a", "label": "x|y"}, {"text": "b", "label": 1}])
    assert read_labelled(single, sets=True).labels == ["x|y", "1"]  # no list, nothing to split at: one label each
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"text": "a", "label": ["x", "y"]}]), tmp_path / "t.parquet")
    assert read_labelled(tmp_path / "t.parquet", sets=True).label_sets == [("x", "y")]


@pytest.mark.parametrize(
    ("label", "message"), [([None], "a label of the list is empty"), ([["x"]], "the label is a list"), (None, "is empty")]
)
def test_a_list_of_what_are_no_labels_is_told_by_file_and_line(tmp_path: Path, label: Any, message: str) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", [{"text": "a", "label": ["x"]}, {"text": "a", "label": label}])
    with pytest.raises(DataError, match=rf"t\.jsonl:2: .*{message}"):
        read_labelled(path, sets=True)


def test_names_of_sets_are_trains_and_others_are_named() -> None:
    train = Labelled(["1", "2", "3"], ["a", "b", "c"], None, None, "made.csv", [("10", "9"), (), ("9",)])
    assert set_names(train) == ["9", "10"] and set_ids(train, ["9", "10"]) == [[0, 1], [], [0]]
    assert set_ids(made(["a"], ["9"]), ["9", "10"]) == [[0]]  # one label is a list of one
    with pytest.raises(DataError, match=r"made\.csv: label '10' \(example 1\) is not one that train has: '9'"):
        set_ids(train, ["9"])
    with pytest.raises(DataError, match="every list of labels is empty"):
        set_names(train.subset([1]))
    for asked in (label_names, numbers):
        with pytest.raises(DataError):
            asked(train)
    with pytest.raises(DataError, match="lists of labels where one is wanted: fine-tune with --task multi-label"):
        label_ids(train, ["9"])


def test_numbers_are_read_from_text_and_what_is_none_is_named() -> None:
    assert numbers(made(["a"] * 5, ["1", " -0.5", "1e3", ".25", "3."])) == [1.0, -0.5, 1000.0, 0.25, 3.0]
    for label in ("nan", "inf", "1e999", "1_000", "0x1", "one", "1,5", "\u0663", "1" * 500):
        with pytest.raises(DataError, match=r"made\.csv: label '.*' \(example made:1\) is no finite number"):
            numbers(made(["a", "b"], ["1", label]))


def test_what_must_stay_together_does_when_dev_is_cut() -> None:
    whole = made([f"text {number}" for number in range(40)], None)
    groups = [f"{number // 4:064x}" for number in range(40)]
    train, dev = cut_dev(whole, 0.3, [0] * 40, together=groups)
    assert len(dev) == 12 and not {int(name.split()[1]) // 4 for name in train.texts} & {int(name.split()[1]) // 4 for name in dev.texts}


JOINED = ["x", "y", "z", "x;y", "y;z", "x;z"]


@pytest.mark.parametrize(
    ("label", "names", "mark"),
    [
        ("x, y", ["x", "y"], ","),
        ("z|x", ["x", "y"], "|"),
        ("z;w", ["x", "y"], None),
        ("x y", ["x", "y"], None),
        ("w", JOINED, ";"),  # it is train's own labels that are others joined
        ("w", JOINED[:-1], None),
    ],
)
def test_an_unknown_label_suggests_the_separator_where_labels_are_others_joined(label: str, names: list[str], mark: str | None) -> None:
    rows = Labelled(["made:1"], ["a text"], None, [label], "made.csv")
    for find, do in ((label_ids, "fine-tune with"), (set_ids, "give")):
        with pytest.raises(DataError) as caught:
            find(rows, names)
        assert str(caught.value).endswith(f", {do} --label-separator '{mark}'") == (mark is not None)
        assert ("--label-separator" in str(caught.value)) == (mark is not None)


def test_columns_of_0_and_1_are_the_labels_that_name_them(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,rude,sad,other\na,1,0,x\nb,0,0,y\nc,1.0,TRUE,\n")
    write_jsonl(
        tmp_path / "t.jsonl",
        [{"text": "a", "rude": 1, "sad": 0.0}, {"text": "b", "rude": False, "sad": 0}, {"text": "c", "rude": 1, "sad": True}],
    )
    for name in ("t.csv", "t.jsonl"):
        read = read_labelled(tmp_path / name, label_columns=("sad", "rude"), sets=True)
        assert read.label_sets == [("rude",), (), ("sad", "rude")] and read.labels is None
        assert set_names(read) == ["rude", "sad"]
    with pytest.raises(DataError, match=r"t\.csv:1: no column 'glad'.*the columns are 'text', 'rude'"):
        read_labelled(tmp_path / "t.csv", label_columns=("rude", "glad"), sets=True)
    for cell in ("", "2", "x", "-1", "0.5"):
        (tmp_path / "t.csv").write_text(f"text,rude\na,1\nb,{cell}\n")
        with pytest.raises(DataError, match=r"t\.csv:3: '.*' in column 'rude': a column of --label-columns holds 0 or 1"):
            read_labelled(tmp_path / "t.csv", label_columns=("rude",), sets=True)
    (tmp_path / "t.txt").write_text("a\n")
    with pytest.raises(DataError, match="columns 'text', 'rude'$"):
        read_labelled(tmp_path / "t.txt", label_columns=("rude",), sets=True)


@pytest.mark.parametrize("vector", [[0.0, 1.0, 0.0], [1, 1], [True, False, False], ["0", "0"], ["True", "True"]])
def test_a_vector_of_marks_is_no_list_of_labels(tmp_path: Path, vector: list[Any]) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", [{"text": "a", "label": ["x"]}, {"text": "b", "label": vector}])
    with pytest.raises(DataError, match=r"t\.jsonl:2: .* says of each label whether it is given: give the names"):
        read_labelled(path, sets=True)


def test_a_list_may_name_a_label_twice_and_labels_may_be_0_and_1(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", [{"text": "a", "label": ["x", "x"]}, {"text": "b", "label": [0, 1]}])
    assert read_labelled(path, sets=True).label_sets == [("x",), ("0", "1")]


PRINTED = ["['joy', 'fear']", "['joy' 'fear']", '["joy"]', "[]", "[0 1]", "[0. 1.\n 0.]", "['a'\n 'b']", "[True, False]"]


@pytest.mark.parametrize("printed", PRINTED)
def test_a_list_that_was_printed_into_a_cell_is_no_label(printed: str) -> None:
    rows = made(["a", "b"], ["joy", printed])
    for names in (label_names, set_names):
        with pytest.raises(DataError, match=r"(?s)made\.csv: the label \[.*is a list printed into a cell: give lists in JSONL"):
            names(rows)


@pytest.mark.parametrize("label", ["[CLS]", "[1]", "[other]", "joy [sic]", "1, 2", "[18, 25]", "[0, 10)"])
def test_a_label_in_brackets_is_a_label(label: str) -> None:
    assert set(label_names(made(["a", "b"], ["joy", label]))) == {"joy", label}


@pytest.mark.parametrize(("known", "given"), [("0.0", "0"), ("love ", "love"), ("Love", "love"), ("1", "1.0")])
def test_a_label_that_is_trains_but_for_how_it_is_written_says_so(known: str, given: str) -> None:
    for find in (label_ids, set_ids):
        with pytest.raises(
            DataError, match=rf"label '{given}' \(example made:0\) is not one that train has, which has '{known}': write it alike"
        ):
            find(made(["a"], [given]), ["x", known])


def test_a_number_with_a_comma_is_told_how_to_write_it() -> None:
    with pytest.raises(DataError, match="label '0,25' .* is no finite number, as regression wants: write it as 0.25"):
        numbers(made(["a"], ["0,25"]))
    with pytest.raises(DataError, match="as regression wants$"):
        numbers(made(["a"], ["1,000.5"]))


@pytest.mark.parametrize(
    ("label", "is_one"),
    [("0,25", True), ("-3,5", True), ("12,5", True), ("1,000", False), ("1,000,000", False), ("0.25", False), ("3", False), ("a,b", False)],
)
def test_a_decimal_comma_is_none_of_thousands(label: str, is_one: bool) -> None:
    assert has_decimal_comma(label) is is_one

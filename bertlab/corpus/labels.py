"""The labels of a file together: their names in order, the places of examples' labels among them, numbers, and columns that hold no labels.

What no single row shows is refused here: too few labels or too many, lists that a program printed into a cell, a label that train lacks.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

from bertlab.corpus.identity import normalised_sha256
from bertlab.corpus.labelled import Labelled
from bertlab.errors import DataError

JOINING = ("|", ";", ",")  # what people put between several labels in one cell
FEWEST_JOINED = 3  # fewer labels that are others joined may be so by chance
MOST_LABELS = 65_536  # classes; a column with more of them is another one, and a classifier of a million is gigabytes
# ['a', 'b'] of Python, ['a' 'b'] of numpy or a part of one, [0. 1.] and [True, False], []; but [18, 25] is an interval
_MARK = r"(?:[01](?:\.0?)?|True|False)"
_PRINTED = re.compile(rf"""\[\s*(?:['"].*|{_MARK}(?:[,\s]+{_MARK})+\s*\]|\])""", re.DOTALL)
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(,[0-9]{3})+")
_INTEGER = re.compile(r"[+-]?[0-9]{1,4000}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")


def label_names(train: Labelled) -> list[str]:
    """The distinct labels in order: by number when all are integers, else by text. Raises DataError for fewer than two."""
    distinct = set(train.labels or ())
    if len(distinct) < 2:
        only = f"one label, '{next(iter(distinct))}'" if distinct else "no label"
        raise DataError(f"{train.origin}: {only} in {len(train)} rows: at least two are needed")
    return _in_order(distinct, train)


def set_names(train: Labelled) -> list[str]:
    """The distinct labels of all lists in order, as `label_names` has them. Raises DataError for none."""
    distinct = {name for each in _sets_of(train) for name in each}
    if not distinct:
        raise DataError(f"{train.origin}: every list of labels is empty: there is nothing to learn")
    return _in_order(distinct, train)


def _in_order(distinct: set[str], train: Labelled) -> list[str]:
    if len(distinct) > MOST_LABELS:
        raise DataError(
            f"{train.origin}: {len(distinct):,} different labels in {len(train):,} rows, and at most {MOST_LABELS:,} can be learnt: "
            "is it the right column (--label)?"
        )
    printed = min(filter(_PRINTED.fullmatch, distinct), default=None)
    if printed is not None:
        raise DataError(
            f"{train.origin}: the label {printed:.60} is a list printed into a cell: give lists in JSONL or Parquet (pandas: to_json(FILE, "
            "orient='records', lines=True)), or labels joined by a mark and --label-separator"
        )
    if all(_INTEGER.fullmatch(name) for name in distinct):
        return sorted(distinct, key=lambda name: (int(name), name))
    return sorted(distinct)


def alike_names(names: Sequence[str]) -> list[list[str]]:
    """The names that are equal but for letter case, white space and Unicode form, together, in their order; none where all differ."""
    together: dict[str, list[str]] = {}
    for name in names:
        together.setdefault(normalised_sha256(name), []).append(name)
    return [ways for ways in together.values() if len(ways) > 1]


def joined_names(names: Sequence[str]) -> tuple[str, list[str]] | None:
    """The mark that seems to stand between several labels of a text, and the names that are names of others with it between."""
    for mark in JOINING:
        parts_of = {name: [part.strip() for part in name.split(mark)] for name in names}
        times = Counter(part for parts in parts_of.values() for part in parts)
        joined = [name for name, parts in parts_of.items() if len(parts) > 1 and all(times[part] > 1 for part in parts)]
        if len(joined) >= FEWEST_JOINED:
            return mark, joined
    return None


def label_ids(labelled: Labelled, names: Sequence[str]) -> list[int]:
    """The place of each example's label in `names`. Raises DataError for a label that is not among them."""
    place = {name: index for index, name in enumerate(names)}
    labels = _labels(labelled)
    for row, name in zip(labelled.ids, labels, strict=True):
        if name not in place:
            raise _unknown_label(labelled, name, row, names, "fine-tune with")
    return [place[name] for name in labels]


def set_ids(labelled: Labelled, names: Sequence[str]) -> list[list[int]]:
    """The places of each example's labels in `names`, in ascending order. Raises DataError for a label that is not among them."""
    place = {name: index for index, name in enumerate(names)}
    found = []
    for row, labels in zip(labelled.ids, _sets_of(labelled), strict=True):
        strange = next((name for name in labels if name not in place), None)
        if strange is not None:
            raise _unknown_label(labelled, strange, row, names, "give")
        found.append(sorted(place[name] for name in labels))
    return found


def numbers(labelled: Labelled) -> list[float]:
    """Each example's label as a number. Raises DataError for one that is none, or not finite."""
    found = []
    for row, label in zip(labelled.ids, _labels(labelled), strict=True):
        value = number_of(label)
        if value is None:
            point = f": write it as {label.strip().replace(',', '.')}" if has_decimal_comma(label) else ""
            raise DataError(f"{labelled.origin}: label '{label}' (example {row}) is no finite number, as regression wants{point}")
        found.append(value)
    return found


def number_of(label: str) -> float | None:
    """The finite number that a label is, or None."""
    stripped = label.strip()
    if len(stripped) > 400 or not _NUMBER.fullmatch(stripped) or not math.isfinite(float(stripped)):
        return None
    return float(stripped)


def has_decimal_comma(label: str) -> bool:
    """Whether a label is a number as it is written in German or French; of 1,000 nobody knows."""
    written = label.strip()
    return (
        "." not in written and "," in written and not _THOUSANDS.fullmatch(written) and number_of(written.replace(",", ".", 1)) is not None
    )


def _labels(labelled: Labelled) -> list[str]:
    if labelled.label_sets is not None:
        raise DataError(f"{labelled.origin}: there are lists of labels where one is wanted: fine-tune with --task multi-label")
    if labelled.labels is None:
        raise DataError(f"{labelled.origin}: no labels: give a file with a label in every row")
    return labelled.labels


def _sets_of(labelled: Labelled) -> list[tuple[str, ...]]:
    """The lists of labels; one label alone is a list of one."""
    if labelled.label_sets is not None:
        return labelled.label_sets
    return [(label,) for label in _labels(labelled)]


def _unknown_label(labelled: Labelled, name: str, row: str, names: Sequence[str], do: str) -> DataError:
    """`do`: where several labels a text are known already the option is enough, else a model that gives one a text is the wrong one."""
    same = next((each for each in names if _same(each, name)), None)
    if same is not None:
        return DataError(f"{labelled.origin}: label '{name}' (example {row}) is not one that train has, which has '{same}': write it alike")
    known = ", ".join(f"'{known}'" for known in names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    mark = next((mark for mark in JOINING if mark in name and any(part.strip() in names for part in name.split(mark))), None)
    if mark is None and (joined := joined_names(names)):
        mark = joined[0]
    several = "" if mark is None else f"; if a text may have several labels, {do} --label-separator '{mark}'"
    return DataError(f"{labelled.origin}: label '{name}' (example {row}) is not one that train has: {known}{several}")


def _same(a: str, b: str) -> bool:
    """The same number, or the same but for letter case, white space and Unicode form."""
    number = number_of(a)
    return normalised_sha256(a) == normalised_sha256(b) or (number is not None and number == number_of(b))

"""bertlab/batches/windows.py against the loops of BERT's script, written out."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.batches.windows import owned, windows_of


def by_a_loop(length: int, room: int, stride: int) -> list[tuple[int, int]]:
    spans, start = [], 0
    while True:
        spans.append((start, min(room, length - start)))
        if start + spans[-1][1] >= length:
            return spans
        start += min(room, stride)


def owners_by_a_loop(spans: list[tuple[int, int]], token: int) -> int:
    best, owner = -1.0, -1
    for number, (start, length) in enumerate(spans):
        if start <= token < start + length:
            context = min(token - start, start + length - 1 - token) + 0.01 * length
            if context > best:
                best, owner = context, number
    return owner


def test_windows_by_hand() -> None:
    windows = windows_of(np.array([3, 10, 0, 4]), 4, 3)
    assert windows.texts.tolist() == [0, 1, 1, 1, 2, 3]
    assert windows.starts.tolist() == [0, 0, 3, 6, 0, 0] and windows.lengths.tolist() == [3, 4, 4, 4, 0, 4]
    assert windows.first().starts.tolist() == [0, 0, 0, 0] and windows.first().lengths.tolist() == [3, 4, 0, 4]
    # tokens 3 and 6 of the second text are at an end in both of their windows: the first has them
    marks = owned(windows).astype(int).tolist()
    assert marks == [1, 1, 1, *[1, 1, 1, 1], *[0, 1, 1, 1], *[0, 1, 1, 1], *[1, 1, 1, 1]]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 15)), min_size=1, max_size=6), st.integers(1, 20))
@settings(max_examples=300, deadline=None)
def test_windows_and_owners_are_those_of_the_loops(texts: list[tuple[int, int]], stride: int) -> None:
    lengths, rooms = np.array([length for length, _ in texts]), np.array([room for _, room in texts])
    windows = windows_of(lengths, rooms, stride)
    expected = [by_a_loop(length, room, stride) for length, room in texts]
    assert list(zip(windows.starts.tolist(), windows.lengths.tolist(), strict=True)) == [span for spans in expected for span in spans]
    marks, place = owned(windows), 0
    for spans in expected:
        for number, (start, length) in enumerate(spans):
            mine = [owners_by_a_loop(spans, token) == number for token in range(start, start + length)]
            assert marks[place : place + length].tolist() == mine
            place += length
    assert marks.sum() == lengths.sum()  # every token has one owner


def test_a_much_shorter_last_window_gives_way_as_in_berts_script() -> None:
    windows = windows_of(np.array([400]), 384, 128)  # [0, 384) and [128, 400)
    spans = by_a_loop(400, 384, 128)
    mine = [owners_by_a_loop(spans, token) for token in range(400)]
    assert mine[256] == 0  # 127 neighbours at its poorer side there, 128 in the window that is 112 shorter
    assert owned(windows).tolist() == [owner == 0 for owner in mine[:384]] + [owner == 1 for owner in mine[128:]]

"""The page of a file of vectors: its numbers are the map's, texts of strangers are text; in a browser it is zoomed, moved, searched."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertlab.disk import read_sealed, write_sealed
from bertlab.embedding.index import open_index
from bertlab.embedding.mapping import map_of
from bertlab.errors import ConfigError, CorruptError
from bertlab.pages import vectors_report
from bertlab.pages.report import page_of, write_report
from tests.pages.test_explore import ATTRIBUTES, ELEMENTS, browser, opened
from tests.pages.test_in_browser import CONTRAST
from tests.pages.test_report import Page
from tests.security.test_shown import PAYLOADS, Parsed, steering

Store = Callable[..., Path]
__all__ = ["browser"]  # the fixture: one Chromium for this file


def grouped(rows: int = 90, groups: int = 9) -> np.ndarray:
    draw = np.random.default_rng(0)
    return draw.normal(size=(groups, 8))[np.arange(rows) % groups] * 3 + draw.normal(size=(rows, 8))


TEXTS = [f"text number {row} of a river" if row % 2 else f"text number {row} of a mill" for row in range(90)]
LABELS = [None if row == 4 else f"label {row % 9}" for row in range(90)]


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory, stored_vectors: Store) -> Path:
    return stored_vectors(tmp_path_factory.mktemp("vectors") / "mine.npy", grouped(), TEXTS, LABELS)


@pytest.fixture(scope="module")
def written(vectors: Path) -> Path:
    assert write_report(page_of(vectors), [vectors])
    return vectors.with_name("mine.npy.html")


def data_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text.partition('<script type=application/json id="vectors">')[2].partition("</script>")[0])
    return found


# --- numbers ------------------------------------------------------------------------------------------------------------------------------


def test_every_number_of_the_page_is_that_of_the_vectors_to_the_digit(vectors: Path, written: Path) -> None:
    found, shown = map_of(open_index(vectors)), Page(written.read_text(encoding="utf-8")).numbers
    known = {"map.kept": found.kept, "map.shown": found.shown}
    for name in ("alignment", "uniformity", "anisotropy"):
        known[f"geometry.{name}"] = found.geometry[name]
        known |= {f"geometry.intervals.{name}.{end}": found.geometry["intervals"][name][end] for end in ("low", "high")}
    examples = {int(place.split(".")[1]) for place in shown if place.startswith("near.")}
    assert len(examples) == 8 and {0, 89} <= examples
    known |= {f"near.{n}.{place}": float(found.cosines[n, place]) for n in examples for place in range(5)}
    assert {place: exact for place, (exact, _) in shown.items()} == known
    directions = grouped().astype(np.float32).astype(np.float64)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    assert shown["near.0.0"][0] == pytest.approx(np.sort(directions @ directions[0])[-2], abs=1e-9)
    assert shown["near.0.0"][1] == f"{known['near.0.0']:.3f}" and shown["map.shown"][1] == f"{found.shown:.0%}"


def test_what_the_script_gets_is_the_map_with_a_mark_of_its_group_at_each_point(vectors: Path, written: Path) -> None:
    found, text = map_of(open_index(vectors)), written.read_text(encoding="utf-8")
    data = data_of(text)
    assert (data["ids"], data["texts"], data["labels"]) == (found.ids, TEXTS, LABELS)
    assert data["near"] == found.near.tolist() and np.abs(np.array(data["cosines"]) - found.cosines).max() < 5.1e-5
    counts = Counter(data["groups"])
    assert len(counts) == 8 and counts[7] == 20 - 1 + 1, (
        "seven labels have a mark of their own; the two others and the text without one share"
    )
    points = np.array(data["points"])
    assert points[:, 0].min() >= 0 and points[:, 0].max() <= 720 and points[:, 1].min() >= 0 and points[:, 1].max() <= 480
    scale = np.ptp(points, axis=0) / np.ptp(found.points, axis=0)
    assert scale[0] == pytest.approx(scale[1], rel=0.01), "one scale for both axes"
    assert np.corrcoef(points[:, 1], -found.points[:, 1])[0, 1] > 0.999, "up is up"
    drawn = re.findall(r'<path d="([^"]*)" class="mark c\d" data-group="(\d)">', text)
    assert [path.count("M") for path, _ in drawn] == [counts[int(group)] for _, group in drawn]


def test_the_page_says_what_it_knows_in_words(vectors: Path, written: Path, tmp_path: Path, stored_vectors: Store) -> None:
    text = " ".join(Page(written.read_text(encoding="utf-8")).text.split())
    for words in ("Vectors mine.npy", "90 vectors of 8 numbers", "label 1 (10)", "others, or none (20)", "by chance it would be 11.2%"):
        assert words in text, words
    assert "model.safetensors" in text and "All at length 1." in text and "No label is known" not in text
    bare = stored_vectors(tmp_path / "bare.npy", grouped(), TEXTS)
    bare.with_suffix(".jsonl").unlink()
    write_report(tmp_path / "bare.html", [bare])
    text = Page((tmp_path / "bare.html").read_text(encoding="utf-8")).text
    assert "The texts are not shown" in text and "--texts FILE" in text and "id 89" in text and "No label is known" in text


def test_a_page_is_the_same_bytes_again_and_beside_the_vectors(vectors: Path, written: Path, tmp_path: Path) -> None:
    assert page_of(vectors) == written
    write_report(tmp_path / "again.html", [vectors])
    assert (tmp_path / "again.html").read_bytes() == written.read_bytes()


@pytest.mark.parametrize("text", ["<" * 300, "\U0001f600" * 300], ids=["escaped", "emoji"])
def test_the_longest_texts_labels_and_ids_are_cut_to_a_page_below_5_mb(tmp_path: Path, stored_vectors: Store, text: str) -> None:
    path = stored_vectors(
        tmp_path / "v.npy", np.random.default_rng(0).normal(size=(3_100, 2)), [text] * 3_100, [text] * 3_100, [text] * 3_100
    )
    found = map_of(open_index(path))
    page = "".join(vectors_report.sections(found))
    assert len(found.ids) == 3_000 and 1_000_000 < len(page.encode()) < 4_500_000
    data = data_of(page)
    assert data["texts"][0].endswith("…") and len(data["texts"][0]) in vectors_report.LONGEST


# --- hostile ------------------------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_drawn_ends_in_one_line(tmp_path: Path, vectors: Path, topics: Path, stored_vectors: Store) -> None:
    for runs, texts, words in (
        ([vectors, topics], None, "vectors have a page of their own"),
        ([topics, vectors], None, "vectors have a page of their own"),
        ([topics], "x.txt", "they belong to a file of vectors"),
        ([vectors.with_suffix(".jsonl")], None, "write it with bertlab embed"),
    ):
        with pytest.raises(ConfigError, match=words):
            write_report(tmp_path / "page.html", runs, texts=texts)
    path = stored_vectors(tmp_path / "v.npy", grouped(), TEXTS)
    facts = read_sealed(tmp_path / "v.npy.manifest.json")
    facts.pop("seal")
    model = facts["from"]["model"]
    for change in ({"rows": 10**18}, {"dims": "many"}, {"from": facts["from"] | {"model": model | {"files": [1]}}}):
        write_sealed(tmp_path / "v.npy.manifest.json", facts | change)
        with pytest.raises(CorruptError) as caught:
            write_report(tmp_path / "page.html", [path])
        assert "\n" not in str(caught.value) and "v.npy" in str(caught.value)
    assert not (tmp_path / "page.html").exists()


def hostile(folder: Path, store: Store, text: str) -> Path:
    """The page of four texts, whose every text, label, id, path and name is `text`."""
    name = "v" if text == "x" else text.translate({0: None, ord("/"): "|"}).encode("utf-8", "replace").decode()[:40]
    folder.mkdir()
    path = store(folder / "v.npy", grouped(4), [text] * 4, [f"{text}{row % 2}" for row in range(4)], [text.replace("\n", " ")] * 4)
    facts = read_sealed(folder / "v.npy.manifest.json")
    facts.pop("seal")
    facts["from"]["model"] = {"path": text, "files": {text: text}}
    facts["from"]["input"] = facts["from"]["input"] | {"path": str(folder / "v.jsonl")}
    write_sealed(folder / "v.npy.manifest.json", facts | {"pooling": text, "loss": text})
    (folder / name).mkdir()
    for each in (path, folder / "v.ids.txt", folder / "v.npy.manifest.json"):
        each.rename(folder / name / each.name)
    write_report(folder / "page.html", [folder / name / "v.npy"])
    return folder / "page.html"


def test_60_hostile_strings_wherever_a_text_can_stand_change_no_mark_up(tmp_path: Path, stored_vectors: Store) -> None:
    assert len(PAYLOADS) >= 60
    plain = Parsed(hostile(tmp_path / "plain", stored_vectors, "x").read_text(encoding="utf-8"))
    for number, payload in enumerate(PAYLOADS):
        text = hostile(tmp_path / str(number), stored_vectors, payload).read_text(encoding="utf-8")
        parsed = Parsed(text)
        assert Counter(tag for tag, *_ in parsed.elements.elements()) == Counter(tag for tag, *_ in plain.elements.elements()), payload
        assert parsed.other == [] and steering(text) == set(), payload
        assert not set("<>&") & set(text.partition('id="vectors">')[2].partition("</script>")[0]), payload


# --- in a browser -------------------------------------------------------------------------------------------------------------------------


def scale_of(found: Any) -> float:
    value: float = found.evaluate("scale")
    return value


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_one_searches_chooses_zooms_and_moves_on_any_screen(browser: Any, vectors: Path, written: Path, width: int, scheme: str) -> None:
    known = map_of(open_index(vectors))
    with opened(browser, written.as_uri(), viewport={"width": width, "height": 800}, color_scheme=scheme) as found:
        assert found.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "no sideways scroll"
        found.fill("#search", "NUMBER 8")
        assert "11 of the texts" in found.inner_text("#count") and found.locator("#found li").count() == 11
        found.click("#found button >> nth=1")
        assert TEXTS[80] in found.inner_text("#chosen") and LABELS[80] in found.inner_text("#chosen")
        assert found.evaluate("document.activeElement.textContent") == "The chosen text"
        row = found.locator("#chosen tbody tr").first.locator("th, td").all_inner_texts()
        other = int(known.near[80, 0])
        assert row == [TEXTS[other], f"{known.cosines[80, 0]:.3f}", LABELS[other], known.ids[other]]
        found.click("#chosen tbody button >> nth=0")
        assert TEXTS[other] in found.inner_text("#chosen > p >> nth=0")
        rings = "[...document.querySelectorAll('.ring')].map((each) => (each.getAttribute('d').match(/M/g) || []).length)"
        assert found.evaluate(rings) == [11, 10, 1]

        assert found.is_disabled("#whole") and scale_of(found) == 1
        found.click("#closer")
        assert scale_of(found) == 2 and not found.is_disabled("#whole")
        found.focus("#map")
        before = found.evaluate("[left, top_]")
        found.keyboard.press("ArrowRight")
        assert found.evaluate("[left, top_]") == [before[0] - 90, before[1]]
        found.keyboard.press("+")
        assert scale_of(found) == 4
        found.keyboard.press("0")
        assert scale_of(found) == 1 and found.evaluate("[left + 0, top_ + 0]") == [0, 0]

        found.locator("#map svg").scroll_into_view_if_needed()
        box = found.locator("#map svg").bounding_box()
        x, y = known_place(found, 4)
        found.mouse.click(box["x"] + x * box["width"] / 720, box["y"] + y * box["height"] / 480)
        shown = found.evaluate("chosen")
        a, b = known_place(found, shown)
        assert (a - x) ** 2 + (b - y) ** 2 <= (2 * 720 / box["width"]) ** 2, "the mark that was clicked, or one that lies on it"
        found.select_option("#only", label="label 1")
        assert sum(found.evaluate("marks.map((each) => (each.getAttribute('d').match(/M/g) || []).length)")) == 10
        assert found.evaluate(CONTRAST) == []


def known_place(found: Any, n: int) -> tuple[float, float]:
    x, y = found.evaluate("(n) => at(n)", n)
    return x, y


def test_every_control_has_a_name_and_the_wheel_scrolls_the_page_unless_it_is_asked(browser: Any, written: Path) -> None:
    with opened(browser, written.as_uri(), viewport={"width": 800, "height": 600}) as found:
        found.fill("#search", "river")
        found.click("#found button >> nth=0")
        nameless = found.evaluate(
            """() => [...document.querySelectorAll('input, select, button, svg:not([aria-hidden]), table, #map')].filter((each) =>
            !(each.labels && each.labels.length) && !each.getAttribute('aria-label') && !each.textContent.trim())
            .map((each) => each.outerHTML)"""
        )
        assert nameless == []
        found.locator("#map").hover()
        found.mouse.wheel(0, -100)
        assert scale_of(found) == 1
        found.keyboard.down("Control")
        found.mouse.wheel(0, -100)
        found.wait_for_function("scale > 1")
        found.keyboard.up("Control")
        box = found.locator("#map").bounding_box()
        found.mouse.move(box["x"] + 200, box["y"] + 100)
        found.mouse.down()
        before, chosen = found.evaluate("left"), found.evaluate("chosen")
        found.mouse.move(box["x"] + 150, box["y"] + 100, steps=3)
        found.mouse.up()
        assert found.evaluate("left") < before and found.evaluate("chosen") == chosen, "a drag moves and chooses nothing"


def test_hostile_strings_are_text_to_the_script_too(browser: Any, tmp_path: Path, stored_vectors: Store) -> None:
    wanted: tuple[Any, Any] | None = None
    for number, payload in enumerate(["x", *PAYLOADS[::12]]):
        address = hostile(tmp_path / str(number), stored_vectors, payload).as_uri()
        with opened(browser, address) as found:
            found.evaluate("$('search').value = small[0].trim().slice(0, 1); search()")
            found.evaluate("choose(3)")
            counted = (Counter(found.evaluate(ELEMENTS)), set(found.evaluate(ATTRIBUTES)))
            wanted = wanted or counted
            assert counted == wanted, (payload, counted[0] - wanted[0], wanted[0] - counted[0], counted[1] ^ wanted[1])


def test_with_scripts_off_the_map_and_its_tables_are_there_and_nothing_that_does_nothing(browser: Any, written: Path) -> None:
    with opened(browser, written.as_uri(), java_script_enabled=False) as found:
        assert found.locator("#map svg path").count() == 8 and found.locator("main table").count() >= 9
        text = found.inner_text("main")
        assert "With scripts on the map can be zoomed" in text and TEXTS[0] in text and "cosine" in text
        assert not [each for each in found.locator("button, input, select").all() if each.is_visible()]

"""The explorer's page in headless Chromium: typed into, clicked, steered by keys; hostile strings everywhere; snapshots; small screens."""

import copy
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import bertlab
from bertlab.exploring.questions import questions
from bertlab.pages.explore import page
from bertlab.pages.serving import Server
from tests.security.test_shown import PAYLOADS

TEXT, SECOND = "the old river runs to the sea", "birds sing in spring"
CONTEXTS = "the river runs to the sea\nbirds sing over the river\n\na stone hill from the old river\nbanks in spring , river birds"
ELEMENTS = """() => { const found = {};
    for (const { localName } of document.querySelectorAll('*')) found[localName] = 1 + (found[localName] || 0);
    return found; }"""
ATTRIBUTES = "() => [...new Set([...document.querySelectorAll('*')].flatMap((each) => each.getAttributeNames()))]"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@contextmanager
def serving(answers: dict[str, Any]) -> Iterator[Server]:
    with Server(page(), answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def opened(browser: Any, address: str, **settings: Any) -> Iterator[Any]:
    """A page of its own. In the end nothing may have gone wrong in it, no dialog opened, and nothing been asked of anybody else."""
    context = browser.new_context(**settings)
    found = context.new_page()
    found.set_default_timeout(60_000)
    wrong: list[str] = []
    found.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    found.on("pageerror", lambda error: wrong.append(str(error)))

    def dismissed(dialog: Any) -> None:
        wrong.append(f"dialog {dialog.message}")
        dialog.dismiss()

    found.on("dialog", dismissed)
    own = address.partition("#")[0]
    found.on("request", lambda request: None if request.url.startswith(own) else wrong.append(f"asked {request.url}"))
    found.goto(address)
    yield found
    context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def answers_of(every_model: dict[str, str]) -> Callable[[str], dict[str, Any]]:
    return lambda name: questions(
        bertlab.load(every_model[name], "cpu"), name, lambda text: [{"id": "a:1", "text": f"near {text}", "cosine": 0.5}]
    )


def looked(found: Any, text: str, second: str = "") -> None:
    found.fill("#text", text)
    found.fill("#text_b", second)
    found.click("#ask button")
    found.wait_for_selector("#status:has-text('answered')")


def test_one_types_masks_and_chooses_a_head(browser: Any, answers_of: Any) -> None:
    answers = answers_of("words")
    with serving(answers) as server, opened(browser, server.address) as found:
        found.wait_for_selector("#kind:not(:empty)")
        assert "2 layers of 4 heads" in found.inner_text("#kind") and found.is_hidden("#found")
        looked(found, TEXT, SECOND)
        wanted = answers["look"]({"text": TEXT, "text_b": SECOND})
        assert found.locator("#tokens button").all_inner_texts() == [token["text"] for token in wanted["tokens"]]
        assert "of-second" in found.get_attribute("#tokens button:nth-child(10)", "class")
        assert f"{100 * wanted['next']['follows']:.0f} %" in found.inner_text("#follows")
        found.wait_for_selector("#near table")  # the nearest are asked for when the rest is answered
        assert f"near {TEXT}" in found.inner_text("#near")

        found.click("#tokens button:nth-child(4)")  # river
        found.select_option("#layer", label="1")
        found.select_option("#head", label="3")
        assert "river" in found.inner_text("#chosen") and "head 3" in found.inner_text("#chosen")
        weights = [attention(wanted, 0, 2, 3, to) for to in range(len(wanted["tokens"]))]
        largest = max(range(len(weights)), key=lambda place: (weights[place], -place))
        first = found.locator("#weights tbody tr").first.locator("th, td").all_inner_texts()
        assert first[:2] == [wanted["tokens"][largest]["text"], str(largest)]
        assert first[2] == f"{100 * weights[largest]:.{1 if weights[largest] < 0.1 else 0}f} %"
        found.select_option("#direction", value="read")
        assert found.inner_text("#chosen").startswith("What reads river")

        found.click("#mask")
        found.wait_for_selector("#gaps table")
        masked = answers["look"]({"text": TEXT, "text_b": SECOND, "masked": [3]})
        assert found.inner_text("#gaps tbody tr:first-child th") == masked["gaps"][0]["words"][0]["word"]
        assert "It was river" in found.inner_text("#gaps") and found.inner_text("#mask") == "Show this token again"
        found.click("#mask")
        found.wait_for_selector("#gaps table", state="detached")


def attention(looked: dict[str, Any], layer: int, head: int, row: int, column: int) -> float:
    import base64

    length, heads = len(looked["tokens"]), looked["attention"]["heads"]
    return base64.b64decode(looked["attention"]["weights"])[((layer * heads + head) * length + row) * length + column] / 255


def test_a_click_on_the_picture_of_all_heads_chooses_one(browser: Any, answers_of: Any) -> None:
    with serving(answers_of("words")) as server, opened(browser, server.address) as found:
        found.wait_for_selector("#kind:not(:empty)")
        looked(found, TEXT)
        box = found.locator("#heads").bounding_box()
        found.locator("#heads").click(position={"x": box["width"] * 0.6, "y": box["height"] * 0.25})  # the third of four heads, first layer
        assert (found.input_value("#layer"), found.input_value("#head")) == ("0", "2") and "head 3 of 4" in found.inner_text("#chosen-head")
        drawn = "id => new Set(new Uint32Array(document.getElementById(id).getContext('2d').getImageData(0, 0, 9, 9).data.buffer)).size"
        assert found.evaluate(drawn, "matrix") > 5 and found.evaluate(drawn, "heads") > 5, "the pictures are drawn"


def test_all_of_it_works_by_keyboard(browser: Any, answers_of: Any) -> None:
    with serving(answers_of("words")) as server, opened(browser, server.address) as found:
        found.wait_for_selector("#kind:not(:empty)")
        found.keyboard.press("Tab")
        found.keyboard.type(TEXT)
        found.keyboard.press("Control+Enter")
        found.wait_for_selector("#tokens button")
        found.focus("#tokens button[tabindex='0']")
        for key, place in (
            ("ArrowRight", 1),
            ("ArrowRight", 2),
            ("End", 8),
            ("ArrowRight", 8),
            ("Home", 0),
            ("ArrowLeft", 0),
            ("ArrowRight", 1),
        ):
            found.keyboard.press(key)
            assert found.evaluate("document.activeElement.dataset.place") == str(place)
            assert found.locator("#tokens [aria-pressed=true]").count() == 1 == found.locator("#tokens [tabindex='0']").count()
        found.keyboard.press("Tab")
        assert found.evaluate("document.activeElement.id") == "mask"
        found.keyboard.press("Enter")
        found.wait_for_selector("#gaps table")
        assert found.evaluate("document.activeElement.id") == "mask", "the focus stays where it was"


def test_everything_that_can_be_changed_has_a_name(browser: Any, answers_of: Any) -> None:
    with serving(answers_of("words")) as server, opened(browser, server.address) as found:
        found.wait_for_selector("#kind:not(:empty)")
        looked(found, TEXT)
        nameless = found.evaluate(
            """() => [...document.querySelectorAll('input, textarea, select, button, canvas, meter, table')].filter((each) =>
            !(each.labels && each.labels.length) && !each.getAttribute('aria-label') && !each.textContent.trim())
            .map((each) => each.outerHTML)"""
        )
        assert nameless == []


def test_a_classifiers_answer_is_explained(browser: Any, answers_of: Any) -> None:
    answers = answers_of("single")
    with serving(answers) as server, opened(browser, server.address) as found:
        found.wait_for_selector("#kind:not(:empty)")
        looked(found, TEXT)
        best = answers["look"]({"text": TEXT})["answer"]["classes"][0]
        row = found.locator("#answer tbody tr").first
        assert row.locator("th").inner_text() == best["label"] and f"{100 * best['probability']:.0f} %" in row.inner_text()
        row.locator("button").click()
        found.wait_for_selector("#why table")
        wanted = answers["attribute"]({"text": TEXT})
        assert f"{wanted['answer']:.3f}" in found.inner_text("#why") and "Integrated gradients" in found.inner_text("#why")
        largest = max(range(len(wanted["shares"])), key=lambda place: abs(wanted["shares"][place]))
        assert found.locator("#why tbody tr").first.locator("th, td").all_inner_texts() == [
            wanted["tokens"][largest], str(largest), f"{wanted['shares'][largest]:.4f}",
        ]  # fmt: skip


def test_a_words_vectors_are_shown_layer_by_layer_and_a_mistake_in_one_line(browser: Any, answers_of: Any) -> None:
    with serving(answers_of("words")) as server, opened(browser, server.address) as found:
        found.wait_for_selector("#kind:not(:empty)")
        found.fill("#word", "river")
        found.fill("#contexts", CONTEXTS)
        found.click("#ask-word button")
        found.wait_for_selector("#map svg")
        assert (
            found.locator("#map g").count() == 4 == found.locator("#list li").count() and found.locator("#by-layer tbody tr").count() == 3
        )
        assert "layer 2 of 2" in found.inner_text("#depth-name")
        found.focus("#depth")
        found.keyboard.press("Home")
        assert "the embeddings" in found.inner_text("#depth-name")


def test_an_error_is_shown_and_goes_with_the_next_answer(browser: Any, answers_of: Any) -> None:
    with serving(answers_of("words")) as server:
        context = browser.new_context()
        found = context.new_page()
        found.goto(server.address)
        found.wait_for_selector("#kind:not(:empty)")
        found.fill("#word", "lake")
        found.fill("#contexts", CONTEXTS)
        found.click("#ask-word button")
        found.wait_for_selector("#error:not([hidden])")
        assert "context 1 is without the word 'lake'" in found.inner_text("#error")
        looked(found, TEXT)
        assert found.is_hidden("#error")
        found.goto(server.address.partition("#")[0] + "#wrong")
        found.reload()
        found.wait_for_selector("#error:not([hidden])")
        assert "token" in found.inner_text("#error")
        context.close()


def with_texts(value: Any, text: str) -> Any:
    """The same with every text in it another, but for what is packed."""
    if isinstance(value, dict):
        return {name: inner if name == "weights" else with_texts(inner, text) for name, inner in value.items()}
    if isinstance(value, list):
        return [with_texts(inner, text) for inner in value]
    return text if isinstance(value, str) else value


def test_60_hostile_strings_wherever_a_text_can_stand_add_no_element(browser: Any, answers_of: Any) -> None:
    words, single = answers_of("words"), answers_of("single")
    groups = [["the river runs", "a river"], ["old river", "river"]]
    real = {
        "about": words["about"]({}),
        "look": words["look"]({"text": TEXT, "text_b": SECOND, "masked": [2]}) | {"answer": single["look"]({"text": TEXT})["answer"]},
        "attribute": single["attribute"]({"text": TEXT}),
        "contexts": words["contexts"]({"word": "river", "groups": groups}),
        "near": words["near"]({"text": TEXT}),
    }
    assert len(PAYLOADS) >= 60
    now = {"text": "x"}
    hostile = {name: (lambda asked, name=name: with_texts(copy.deepcopy(real[name]), now["text"])) for name in real}
    expected: dict[str, int] | None = None
    attributes: set[str] | None = None
    with serving(hostile) as server, opened(browser, server.address) as found:
        found.wait_for_selector("#kind:not(:empty)")
        for text in ["x", *PAYLOADS]:
            now["text"] = text
            done = found.evaluate(
                """async (text) => { begin(await ask('about', {})); $('text').value = text; asked.text = text; keep(await ask('look', {}));
                showNear(await ask('near', {})); showWhy(await ask('attribute', {})); keepParted(await ask('contexts', {}));
                $('error').textContent = inert(text); return $('tokens').textContent.length; }""",
                text,
            )
            counted: dict[str, int] = found.evaluate(ELEMENTS)
            named = set(found.evaluate(ATTRIBUTES))
            expected, attributes = expected or counted, attributes or named
            assert counted == expected and named == attributes and done > 0, text
        assert (
            expected is not None
            and not set(expected) & {"img", "iframe", "object", "embed", "link", "base", "a"}
            and expected["script"] == 1
        )


@pytest.fixture(scope="module")
def snapshot(answers_of: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    words, single = answers_of("words"), answers_of("single")
    asked = {"text": TEXT + " </script><img src=x onerror=alert(1)>", "text_b": SECOND, "masked": [2]}
    groups = [line.split("\n") for line in CONTEXTS.split("\n\n")]
    found = {"about": words["about"]({}), "text": asked["text"], "text_b": SECOND, "looked": words["look"](asked)}
    found |= {"why": single["attribute"]({"text": TEXT}), "near": words["near"]({"text": TEXT})}
    path = tmp_path_factory.mktemp("snapshot") / "page.html"
    path.write_text(page(found | {"parted": words["contexts"]({"word": "river", "groups": groups})}), encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_a_snapshot_needs_no_server_and_fits_any_screen(width: int, scheme: str, browser: Any, snapshot: str) -> None:
    with opened(browser, snapshot, viewport={"width": width, "height": 800}, color_scheme=scheme) as found:
        assert (
            found.locator("#tokens button").count() > 8 and found.locator("#gaps table").count() == 1 == found.locator("#map svg").count()
        )
        assert found.is_hidden("#ask") and found.is_hidden("#mask") and "</script><img" in found.inner_text("#given")
        found.click("#tokens button:nth-child(5)")
        found.select_option("#head", label="2")
        assert "head 2" in found.inner_text("#chosen")
        assert found.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "no sideways scroll"


def test_a_snapshot_can_be_read_with_scripts_off(browser: Any, snapshot: str) -> None:
    with opened(browser, snapshot, java_script_enabled=False) as found:
        text = found.inner_text("main")
        assert "[MASK]" in text and "The second text follows the first" in text and "Attention needs scripts" in text
        assert found.is_hidden("#ask") and found.is_hidden("#found")


def test_the_page_has_a_policy_that_lets_its_own_script_run_and_nothing_else() -> None:
    served, fixed = page(), page(None)
    assert served == fixed and served.count("<script>") == 1 and "style=" not in served.partition("</style>")[2].partition("<script>")[0]
    policy = served.partition('Policy content="')[2].partition('"')[0].replace("&#39;", "'")
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy and "connect-src 'self'" in policy
    assert "unsafe" not in policy and "http" not in policy


def test_no_script_of_a_page_reads_text_as_mark_up() -> None:
    scripts = [path.read_text() for path in sorted(Path(bertlab.__file__).parent.joinpath("pages").glob("*.js"))]
    assert len(scripts) > 2
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "DOMParser",
    ):
        assert not [script for script in scripts if way in script], way
    assert "".join(scripts).count("http") == 1, "only the name of SVG"

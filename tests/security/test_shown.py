"""What a stranger's text does on the screen, on a page, in a log: nothing (S11, S12). And what is written tells no secret (S16).

The whole page in a browser comes with the report; here its mark-up is parsed, and every payload must leave it as it was.
"""

import json
import re
import stat
import unicodedata
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bertlab.pages.doctor import page, screen
from bertlab.pages.report import write_report
from bertlab.schema import leaves
from bertlab.training.runlog import RunLog, read_settings

STEERS = {"Cc", "Zl", "Zp", "Cs"}
TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
MARKS = {"\u200e", "\u200f", "\u061c"}


def steering(text: str) -> set[str]:
    """The characters of a text that a terminal or a reader of lines obeys, but for the ends of lines that are ours."""
    return {
        character
        for character in set(text) - {"\n"}
        if unicodedata.category(character) in STEERS or unicodedata.bidirectional(character) in TURNS or character in MARKS
    }


# --- S12: screen, logs, files of text -----------------------------------------------------------------------------------------------------


def test_nothing_of_texts_names_ids_and_labels_steers_what_was_printed(walk: Any) -> None:
    assert walk.code == 0 and "<img src=x" in walk.said, "the walk shows the hostile names at all"
    assert steering(walk.said) == set()
    # each would begin a line that nobody wrote, if its line break had passed
    assert not [line for line in walk.said.splitlines() if line.startswith(("<img", "&'\""))]


def test_a_log_has_a_line_a_record_whatever_stands_in_it(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "metrics.jsonl", -1)
    said = ['\n{"step": 9, "batch": "00"}\n', "\r\u2028\u2029\x85\x0b\x0c", "\ud800", "\x1b]0;x\x07"]
    for number, text in enumerate(said):
        log.write({"step": number, "what": text, text: 1})
    log.close()
    written = (tmp_path / "metrics.jsonl").read_bytes()
    assert written.isascii() and not {*range(10), *range(11, 32)} & set(written)
    assert [json.loads(line)["what"] for line in written.decode().splitlines()] == said


def test_every_line_of_every_log_of_the_walk_is_a_record(walk: Any) -> None:
    logs = list(walk.root.rglob("*.jsonl"))
    assert walk.root / "bert" / "metrics.jsonl" in logs
    for path in logs:
        assert all(isinstance(json.loads(line), dict) for line in path.read_text().splitlines()), path


def test_a_file_of_ids_has_a_line_an_id(walk: Any) -> None:
    text = (walk.root / "vectors.ids.txt").read_bytes().decode()
    assert len(text.splitlines()) == text.count("\n") == 40 and text.endswith("\n")


def test_a_warning_about_a_file_shows_its_name_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bertlab.verbs import prepare

    text = "".join(
        f"<page><title>T{n}</title><ns>0</ns><id>{n}</id><revision><text>The old mill {n} stands.</text></revision></page>"
        for n in range(9)
    )
    (tmp_path / "\x1b[2J\u202e\n-pages-articles.xml").write_text(f"<mediawiki>{text}<page><title>cut off")
    prepare.run(prepare.Config(source=(str(tmp_path),), out=str(tmp_path / "corpus"), vocab_size=300))
    said = capsys.readouterr()
    assert "warning: " in said.out and steering(said.out + said.err) == set()


# --- S11: pages -------------------------------------------------------------------------------------------------------------------------

PAYLOADS = [
    *("<script>alert(1)</script>", "</script><script>alert(1)</script>", "<ScRiPt src=//x.example/a.js></ScRiPt>", "<script/src=data:,1>"),
    *("<img src=x onerror=alert(1)>", '"><img src=x onerror=alert(1)>', "'><svg onload=alert(1)>", "<svg/onload=alert(1)>"),
    *("<body onload=alert(1)>", "<iframe src=javascript:alert(1)>", '<iframe srcdoc="<script>alert(1)</script>">', "<object data=x>"),
    *("<embed src=x>", "<base href=//x.example/>", "<link rel=stylesheet href=//x.example/a.css>", "<meta http-equiv=refresh content=0>"),
    *("<style>*{background:url(//x.example)}</style>", "</style><script>alert(1)</script>", "<form action=//x.example><input>", "<math>"),
    *("</title><script>alert(1)</script>", "</table></div></body></html><b>", "</svg><a href=javascript:1>", "</td></tr><tr><td>"),
    *("<!-- ", "-->", "<!--><script>alert(1)</script>", "<![CDATA[<script>1</script>]]>", "<?php echo 1 ?>", "<!doctype html>"),
    *('" onmouseover="alert(1)', "' onfocus='alert(1)' autofocus='", "` onclick=`1`", "=1 autofocus onfocus=alert(1) x", "x/onload=1"),
    *("&lt;script&gt;alert(1)&lt;/script&gt;", "&#60;script&#62;", "&#x3c;img&#x3e;", "&amp;lt;b&amp;gt;", "&colon;&NewLine;&Tab;"),
    *("javascript:alert(1)", "data:text/html,<script>1</script>", "https://x.example/?a", "//x.example", "url(https://x.example/a)"),
    *("{{7*7}}", "{% include 'x' %}", "${7*7}", "#{7*7}", "%00%0a%3Cscript%3E", "\\u003cscript\\u003e", "\\x3cscript\\x3e"),
    *("\x00<script\x00>", "<scr\x00ipt>", "<\x0bscript>", "\u2028alert(1)\u2029", "\ufeff<script>", "\u202e<tpircs>", "\uff1cscript\uff1e"),
    *("\x1b]8;;http://x.example\x07x\x1b]8;;\x07", "\x1b[2J\x1b[H", "+ADw-script+AD4-", "<plaintext>"),
    *("<noscript><p title='</noscript><b>'>", "<p title='</p>'>", "<a id=x>", "<dialog open>", "<video><source onerror=alert(1)>"),
    *("<details open ontoggle=alert(1)>", "<template><script>1</script></template>", "<textarea>", "<xmp>", "a" * 5000, "\u0301" * 300),
]  # fmt: skip


class Parsed(HTMLParser):
    """Elements with their attributes' names and values as counted, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: Counter[Any] = Counter()
        self.text: list[str] = []
        self.other: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # a chart's numbers may differ, its attributes may not
        self.elements[tag, *(name if tag in ("svg", "rect", "text") else pair for pair in attrs for name in pair[:1])] += 1

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_comment(self, data: str) -> None:
        self.other.append(data)

    def unknown_decl(self, data: str) -> None:
        self.other.append(data)

    def handle_pi(self, data: str) -> None:
        self.other.append(data)


@pytest.fixture(scope="module")
def facts(walk: Any) -> dict[str, Any]:
    """What `bertlab corpus` found of the hostile corpus."""
    found: dict[str, Any] = json.loads((walk.root / "facts.json").read_text())
    return found


def with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """The facts with every text in them changed but for the hash, names of keys that a page shows among them."""
    if isinstance(value, dict):
        renamed = {name: {change(key): count for key, count in value[name].items()} for name in ("dropped", "changed") if name in value}
        kept = {name: value[name] for name in ("sha256", "split") if name in value}
        return {name: with_texts(inner, change) for name, inner in value.items()} | renamed | kept
    if isinstance(value, list):
        return [with_texts(inner, change) for inner in value]
    return change(value) if isinstance(value, str) else value


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_payload_in_any_text_of_the_facts_changes_the_pages_mark_up(facts: dict[str, Any], payload: str) -> None:
    plain, hostile = Parsed(page(with_texts(facts, lambda _: "x"))), page(with_texts(facts, lambda _: payload))
    parsed = Parsed(hostile)
    assert parsed.elements == plain.elements and parsed.other == plain.other == []
    assert steering(hostile) == set()
    shown = screen(with_texts(facts, lambda _: payload))
    assert steering(shown) == set() and len(shown.splitlines()) == len(screen(with_texts(facts, lambda _: "x")).splitlines())


def test_the_page_of_the_walk_has_a_policy_that_lets_nothing_load_and_asks_for_nothing(walk: Any) -> None:
    text = (walk.root / "page.html").read_text()
    head = text[: text.index("<title>")]
    style = text[text.index("<style>") + 7 : text.index("</style>")]
    allowed = b64encode(sha256(style.encode()).digest()).decode()
    assert f"http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'sha256-{allowed}'; base-uri 'none'; form-" in head
    elements = Parsed(text).elements
    assert not {name for name, *_ in elements} & {"script", "img", "link", "iframe", "a", "object", "embed", "form", "base"}
    assert not re.search(r"""(?i)[\s"'](src|href|srcset|action|style|on\w+)\s*=""", re.sub(r">[^<]*<", "><", text))
    assert not re.search(r"(?i)url\(|@import", text[: text.index("</style>")])
    assert "&lt;img src=x onerror=alert(1)&gt;" in text, "the hostile text is shown as text"


def with_names(value: Any, names: dict[str, str]) -> Any:
    """JSON in which every text and every key that is one of `names` is another."""
    if isinstance(value, dict):
        return {names.get(key, key): with_names(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_names(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value


def reported(folder: Path, walk: Any, change: Callable[[str], str]) -> list[str]:
    """The reports of the walk's runs with every label, text, piece and setting changed, in folders whose names are too."""
    pages = []
    for kind in ("bert", "tuned"):
        run = folder / change("run").translate({0: None, ord("/"): "|"})[:60] / kind
        run.mkdir(parents=True)
        config = read_settings(walk.root / kind)
        changed = {name: change(str(value)) if name in ("model", "train", "preset", "test") else value for name, value in config.items()}
        (run / "config.yaml").write_text(json.dumps(changed))
        if kind == "bert":
            records = [json.loads(line) for line in (walk.root / kind / "metrics.jsonl").read_text().splitlines()]
            for pair in (pair for record in records for pair in record.get("guesses", ())):
                pair["text"] = change(pair["text"])
                pair["masked"] = [[place, *map(change, words), share] for place, *words, share in pair["masked"]]
            (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        else:
            metrics = json.loads((walk.root / kind / "metrics.json").read_text())
            names = {label: f"{change(label)}{number}" for number, label in enumerate(metrics["labels"])}
            (run / "metrics.json").write_text(json.dumps(with_names(metrics, names)))
            mistakes = [json.loads(line) for line in (walk.root / kind / "mistakes.jsonl").read_text().split("\n")[:-1]]
            mistakes = [with_names(each, names) | {"text": change(each["text"]), "id": change(each["id"])} for each in mistakes]
            (run / "mistakes.jsonl").write_text("".join(json.dumps(each) + "\n" for each in mistakes))
        write_report(run / "page.html", [run])
        pages.append((run / "page.html").read_text(encoding="utf-8"))
    return pages


@pytest.fixture(scope="module")
def plain_reports(walk: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Parsed]:
    return [Parsed(text) for text in reported(tmp_path_factory.mktemp("plain"), walk, lambda _: "x")]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_payload_as_label_text_piece_setting_or_name_changes_a_reports_mark_up(
    walk: Any, tmp_path: Path, plain_reports: list[Parsed], payload: str
) -> None:
    for plain, text in zip(plain_reports, reported(tmp_path, walk, lambda _: payload), strict=True):
        parsed = Parsed(text)
        assert structure(parsed) == structure(plain) and parsed.other == plain.other == []
        assert steering(text) == set()


def structure(parsed: Parsed) -> Counter[Any]:
    """Elements and their attributes' names."""
    found: Counter[Any] = Counter()
    for (tag, *attributes), count in parsed.elements.items():
        found[tag, *(each if isinstance(each, str) else each[0] for each in attributes)] += count
    return found


def test_the_reports_of_the_walk_ask_for_nothing_and_hold_its_hostile_texts_as_text(walk: Any) -> None:
    for run in ("bert", "tuned"):
        text = (walk.root / run / "report.html").read_text(encoding="utf-8")
        parsed = Parsed(text)
        assert not {tag for tag, *_ in parsed.elements} & {"script", "img", "link", "iframe", "a", "object", "embed", "form", "base"}
        assert "default-src 'none'" in text and not re.search(r"(?i)url\(|@import", text[: text.index("</style>")])
        assert steering(text) == set()
    assert "<img src=x onerror=alert(1)>" in "".join(parsed.text), "the hostile labels are shown"


def test_a_card_is_its_own_lines_whatever_labels_and_sources_are_called(walk: Any) -> None:
    for folder in ("bert", "tuned"):
        card = (walk.root / folder / "model" / "README.md").read_text()
        assert steering(card) == set() and "<img" not in card
        assert card.startswith("---\n") and "\nlibrary_name: transformers\n" in card and card.count("\n---\n") == 1


# --- S16: secrets and modes -------------------------------------------------------------------------------------------------------------


def test_no_secret_of_the_environment_is_printed_or_written(walk: Any) -> None:
    files = [path for path in walk.root.rglob("*") if path.is_file()]
    for secret in walk.secrets:
        assert secret not in walk.said
        assert [path for path in files if secret.encode() in path.read_bytes()] == []


def test_files_and_folders_are_made_as_the_umask_says(walk: Any) -> None:
    modes: dict[int, list[Path]] = {}
    for path in walk.root.rglob("*"):
        inside = path.relative_to(walk.root).parts
        if inside[0] not in ("texts", "rows.jsonl", "asked.jsonl", "empty"):
            modes.setdefault(stat.S_IMODE(path.stat().st_mode), []).append(path)
    assert set(modes) == {0o644, 0o755}, {oct(mode): paths[:3] for mode, paths in modes.items()}
    assert all(path.is_dir() == (mode == 0o755) for mode, paths in modes.items() for path in paths)


def test_no_setting_of_any_verb_holds_a_secret() -> None:
    import importlib

    from bertlab.cli import VERBS

    secret = re.compile(r"(?i)password|passwd|secret|credential|api_?key|(^|[._])(token|key|auth)$")
    assert secret.search("hub.token") and secret.search("api_key") and not secret.search("micro_tokens")
    for verb in VERBS:
        module = importlib.import_module(f"bertlab.{verb}" if verb in ("quickstart", "bench") else f"bertlab.verbs.{verb}")
        assert [name for name in leaves(module.Config) if secret.search(name)] == []

"""bertlab explore: a server that says where it is and ends at Ctrl-C, a page in a file, and mistakes in one line."""

import functools
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertlab
from bertlab.errors import ConfigError, DataError
from bertlab.exploring.questions import nearest_texts
from bertlab.verbs import embed
from bertlab.verbs.explore import Config, run

TEXT = "the [MASK] river runs to the sea"


def test_it_serves_at_the_address_that_it_prints_until_ctrl_c(every_model: dict[str, str]) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(bertlab.__file__).parents[1]), "HTTP_PROXY": "", "http_proxy": ""}
    command = [sys.executable, "-m", "bertlab", "explore", every_model["words"]]
    heeds = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests in the background may have inherited that it is ignored
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, preexec_fn=heeds)
    try:
        assert process.stdout is not None
        address, _, token = next(line for line in process.stdout if "http://" in line).strip().partition("#")
        assert address.startswith("http://127.0.0.1:")
        assert "bertlab explore" in urllib.request.urlopen(address, timeout=60).read().decode()
        headers = {"Content-Type": "application/json", "X-Bertlab-Token": token}
        asked = urllib.request.Request(address + "look", json.dumps({"text": TEXT}).encode(), headers)
        found = json.loads(urllib.request.urlopen(asked, timeout=60).read())
        assert found["tokens"][2]["text"] == "[MASK]" and len(found["gaps"][0]["words"]) == 8
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0 and "Traceback" not in process.stderr.read()  # type: ignore[union-attr]
    finally:
        process.kill()
        process.wait()


def snapshot_of(path: Path) -> dict[str, Any]:
    text = path.read_text()
    found: dict[str, Any] = json.loads(text.partition('<script type=application/json id="snapshot">')[2].partition("</script>")[0])
    return found


def test_a_page_in_a_file_holds_what_was_found(every_model: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contexts = tmp_path / "contexts.txt"
    contexts.write_text("the river runs\nold river – sea\n\n \na stone river\n", "cp1252")
    out = tmp_path / "deep" / "page.html"
    run(
        Config(
            model=every_model["words"], out=str(out), text=TEXT, text_b="a hill", word="river", contexts=str(contexts), encoding="cp1252"
        )
    )
    found = snapshot_of(out)
    assert found["text"] == TEXT and found["text_b"] == "a hill" and found["why"] is None and found["near"] is None
    assert [each["group"] for each in found["parted"]["contexts"]] == [0, 0, 1] and found["looked"]["next"] is not None
    assert "page.html" in capsys.readouterr().out
    run(Config(model=every_model["single"], out=str(out), text="the old river"))
    assert len(snapshot_of(out)["why"]["shares"]) == 5 and every_model["single"] not in out.read_text()


def test_the_nearest_texts_of_an_index_are_those_of_its_vectors(every_model: dict[str, str], tmp_path: Path) -> None:
    texts = ["the old river runs", "birds sing in spring", "a stone hill", "the river runs to the sea"]
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in texts))
    index = str(tmp_path / "vectors.parquet")
    embed.run(embed.Config(model=every_model["words"], input=str(tmp_path / "texts.txt"), output=index, device="cpu"))
    found = nearest_texts(index, every_model["words"])(texts[1])
    vectors = bertlab.load(every_model["words"], "cpu").embed(texts, normalize=True)
    order = np.argsort(-vectors @ vectors[1], kind="stable")
    assert [each["text"] for each in found] == [texts[row] for row in order] and found[0]["cosine"] == pytest.approx(1, abs=1e-5)
    assert [each["id"] for each in found] == [f"texts.txt:{row + 1}" for row in order]
    run(Config(model=every_model["words"], out=str(tmp_path / "page.html"), text=texts[1], index=index))
    assert [each["text"] for each in snapshot_of(tmp_path / "page.html")["near"]] == [each["text"] for each in found]
    (tmp_path / "texts.txt").write_text("others\n" * 4)
    assert [each["text"] for each in nearest_texts(index, every_model["words"])(texts[1])] == [None] * 4, "other texts are not shown"
    with pytest.raises(ConfigError, match="is not the model that made"):
        run(Config(model=every_model["single"], index=index))


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"text": "a"}, "text is for a page in a file"),
        ({"out": "a.html"}, "give --text too"),
        ({"out": "a.txt", "text": "a"}, "a name that ends in .html"),
        ({"out": "a.html", "text": "a", "word": "b"}, "word and contexts: give both or none"),
        ({"port": 70_000}, "port=70000"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Config(model="a", **settings)


def test_a_file_of_contexts_without_the_word_is_a_mistake_and_writes_nothing(every_model: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "contexts.txt").write_text("the hill\n\nthe sea\n")
    settings: dict[str, Any] = {
        "out": str(tmp_path / "page.html"),
        "text": "a",
        "word": "river",
        "contexts": str(tmp_path / "contexts.txt"),
    }
    with pytest.raises(DataError, match="context 1 is without the word"):
        run(Config(model=every_model["words"], **settings))
    assert not (tmp_path / "page.html").exists()

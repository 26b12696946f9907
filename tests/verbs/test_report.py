"""bertlab report: where the page goes, what is refused, and a page that is written until the run is finished."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from bertlab.config import save
from bertlab.disk import write_json
from bertlab.errors import ConfigError
from bertlab.training.runlog import RunLog
from bertlab.verbs import pretrain
from bertlab.verbs.report import Config, run


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A pretraining run after 20 of 40 steps."""
    out = tmp_path / "bert"
    out.mkdir()
    save(pretrain.Config(corpus=str(tmp_path / "corpus"), out=str(out), steps=40), out / "config.yaml")
    log = RunLog(out / "metrics.jsonl", -1)
    for step in range(1, 21):
        log.write(
            {"step": step, "losses": {"mlm_loss": 7.0 - step / 10, "nsp_loss": 0.6}, "tokens_seen": step * 9, "elapsed_seconds": 1.0 * step}
        )
    log.close()
    return out


def test_the_page_goes_into_the_run_or_where_it_is_asked_for(begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Config(runs=(str(begun),))) == begun / "report.html"
    assert "not finished: step 20 of 40" in (begun / "report.html").read_text()
    assert run(Config(runs=(str(begun), str(begun)), out=str(tmp_path / "both.html"))) == tmp_path / "both.html"
    assert "2 runs" in (tmp_path / "both.html").read_text()
    assert f"page        {begun / 'report.html'}" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="is not what bertlab corpus --json wrote"):
        run(Config(runs=(str(begun),), corpus=str(_facts(tmp_path)), out=str(tmp_path / "none.html")))
    assert "page" not in capsys.readouterr().out and not (tmp_path / "none.html").exists()  # no place is named before it is there


def _facts(folder: Path) -> Path:
    """What no corpus has been found to be."""
    (folder / "facts.json").write_text('{"findings": 3}')
    return folder / "facts.json"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"runs": ()}, "name at least one"),
        ({"runs": ("a", "b")}, "say where the page goes"),
        ({"runs": ("a",), "live": 0}, "1 second or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Config(**given)


def test_facts_of_a_corpus_that_are_none_end_in_one_line(begun: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="facts.json: is not what bertlab corpus --json wrote") as caught:
        run(Config(runs=(str(begun),), corpus=str(_facts(tmp_path))))
    assert "\n" not in str(caught.value)


def test_what_is_of_vectors_alone_and_what_changes_no_more_are_refused(begun: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "scored" / "metrics.json", {"labels": ["a"]})
    with pytest.raises(ConfigError, match="label=colour: the map of a file of vectors is coloured by it"):
        run(Config(runs=(str(begun),), label="colour"))
    with pytest.raises(ConfigError, match="live=3: .*scored does not change any more"):
        run(Config(runs=(str(tmp_path / "scored"),), live=3))


def test_nothing_of_somebody_elses_is_taken_for_an_earlier_page(begun: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text("<html>mine</html>")
    for out, words in ((mine, "is nothing that this command writes"), (tmp_path / "rows.jsonl", "name it NAME.html")):
        with pytest.raises(ConfigError, match=words):
            run(Config(runs=(str(begun),), out=str(out)))
    assert mine.read_text() == "<html>mine</html>" and not (tmp_path / "rows.jsonl").exists()
    for _ in range(2):  # its own is written again
        run(Config(runs=(str(begun),), out=str(tmp_path / "page.html")))


def test_a_live_page_is_written_again_until_the_run_is_finished(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        assert "http-equiv=refresh content=7" in (begun / "report.html").read_text()
        with (begun / "metrics.jsonl").open("a") as log:
            log.write(json.dumps({"step": 20 + len(waits), "losses": {"mlm_loss": 5.0, "nsp_loss": 0.5}}) + "\n")
        if len(waits) == 3:
            (begun / "model").mkdir()
            (begun / "model" / "bertlab.json").write_text("{}")

    monkeypatch.setattr(time, "sleep", wait)
    run(Config(runs=(str(begun),), live=7))
    text = (begun / "report.html").read_text()
    assert waits == [7, 7, 7] and "The run is finished" in text and "http-equiv=refresh" not in text

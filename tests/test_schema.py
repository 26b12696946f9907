"""bertlab/schema.py: a Config that Python makes holds values of the declared types, or is refused as a file would be."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from bertlab.cli import VERBS, module_of, parse
from bertlab.config import load, save, to_dict
from bertlab.errors import ConfigError
from bertlab.schema import Settings, leaves
from bertlab.verbs import embed, prepare, pretrain, tune


@dataclass(frozen=True, kw_only=True)
class Part(Settings):
    rate: float = 1e-3


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    source: tuple[str, ...] = ()
    out: str = "run"
    steps: int = 100
    clip: float | None = 1.0
    pooling: Literal["cls", "mean"] | None = None
    title: str | None = None
    fast: bool = False
    part: Part = field(default_factory=Part)


class Word(StrEnum):
    A = "a"


def test_what_python_has_of_the_same_meaning_is_taken(tmp_path: Path) -> None:
    given = Config(source=["a", Path("b")], out=Path("c/d"), steps=np.int64(3), clip=2, part=Part(rate=np.float32(0.5)))  # type: ignore[arg-type]
    assert to_dict(given) == {"source": ["a", "b"], "out": "c/d", "steps": 3, "clip": 2.0, "pooling": None, "title": None,
                              "fast": False, "part": {"rate": 0.5}}  # fmt: skip
    assert [type(value) for value in (given.source, given.out, given.steps, given.clip, given.part.rate)] == [tuple, str, int, float, float]
    assert Config(source="one.txt").source == ("one.txt",)  # type: ignore[arg-type]  # and not its letters
    assert replace(given, steps=np.int32(4)).steps == 4  # type: ignore[arg-type]
    assert type(Config(out=np.str_("a")).out) is type(Config(source=np.array(["a"])).source[0]) is str  # type: ignore[arg-type]
    for several in (np.array(["a", "b"]).astype(object), (name for name in "ab"), {"a": 1, "b": 2}.keys()):
        assert Config(source=several).source == ("a", "b")  # type: ignore[arg-type]
    assert Config(part={"rate": 2}).part == Part(rate=2.0)  # type: ignore[arg-type]
    numpys = Config(pooling=np.str_("mean"), fast=np.True_, title=np.str_("none"), steps=np.array(7))  # type: ignore[arg-type]
    assert numpys == Config(pooling="mean", fast=True, title="none", steps=7)
    save(numpys, tmp_path / "config.yaml")
    assert load(Config, [str(tmp_path / "config.yaml")]) == numpys
    assert Config(out=Word.A).out == "a" and type(Config(out=Word.A).out) is str


@pytest.mark.parametrize("text", ["none", "null", "None", "5", "true", ""])
def test_a_text_stays_what_it_is(text: str, tmp_path: Path) -> None:
    """On the command line `none` unsets; in Python and, quoted, in a file it is a word."""
    assert Config(title=text).title == text and Config(out=text).out == text and Config(source=(text,)).source == (text,)
    (tmp_path / "c.yaml").write_text(f"title: '{text}'\n")
    assert load(Config, [str(tmp_path / "c.yaml")]).title == text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 2.5}, "steps wants a whole number, not 2.5"),
        ({"steps": True}, "steps wants a whole number, not True"),
        ({"clip": True}, "clip wants a finite number, or null to switch it off, not True"),
        ({"steps": None}, "steps wants a whole number, not None"),
        ({"clip": float("nan")}, "clip wants a finite number, or null to switch it off, not nan"),
        ({"clip": "fast"}, "clip wants a finite number, or null to switch it off, not 'fast'"),
        (
            {"clip": 10**400},
            "clip wants a finite number, or null to switch it off, not 10000000000000000000000000000000000000000000000000000000000000",
        ),
        ({"pooling": "meen"}, "pooling wants one of 'cls', 'mean', or to be left out, not 'meen': did you mean 'mean'?"),
        ({"out": None}, "out wants text, not None"),
        ({"out": b"run"}, "out wants text, not b'run'"),
        ({"source": [1]}, "source wants a list of text, not [1]"),
        ({"source": {"a": "b"}}, "source wants a list of text, not a section of keys"),
        ({"fast": 1}, "fast wants true or false, not 1"),
        ({"part": {"rat": 1.0}}, "unknown key 'part.rat': did you mean 'rate'?"),
        ({"part": {"rate": "high"}}, "part.rate wants a finite number, not 'high'"),
        ({"part": None}, "part is a section: give a Part, or a mapping of its keys, not None"),
    ],
)
def test_a_value_of_another_type_is_refused_whoever_gives_it(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Config(**given)
    assert str(raised.value) == message


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_told_by_settings(verb: str) -> None:
    assert issubclass(module_of(verb).Config, Settings)


def test_what_is_no_option_is_known_to_python_alone(tmp_path: Path) -> None:
    """A search has several batch sizes, and its recipe one: of the latter no command line, file or saved run says anything."""
    config = tune.Config(model="m", train="t", out="o")
    assert config.batch_size == 16 and not {"batch_size", "epochs", "learning_rate"} & {*to_dict(config), *leaves(tune.Config)}
    for given, meant in (("--batch-size", "--batch-sizes"), ("--epochs", "--epoch-counts"), ("--learning-rate", "--learning-rates")):
        with pytest.raises(ConfigError, match=f"unknown option {given}: did you mean {meant}"):
            parse("tune", tune.Config, [given, "16"])
    save(config, tmp_path / "config.yaml")
    assert load(tune.Config, [str(tmp_path / "config.yaml")]) == config
    before = (tmp_path / "config.yaml").read_text() + "learning_rate: null\nbatch_size: 16\nepochs: null\n"  # as earlier versions wrote it
    (tmp_path / "config.yaml").write_text(before)
    assert load(tune.Config, [str(tmp_path / "config.yaml")]) == config
    (tmp_path / "config.yaml").write_text(before.replace("batch_size: 16", "batch_size: 32"))
    with pytest.raises(ConfigError, match="unknown key 'batch_size': did you mean 'batch_sizes'"):
        load(tune.Config, [str(tmp_path / "config.yaml")])


def test_a_verb_called_from_python_refuses_what_its_command_would(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pooling wants one of 'cls', .* not 'meen': did you mean 'mean'"):
        embed.Config(model="m", input="i", output="o", pooling="meen")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="preset wants one of .* not 'tinny': did you mean 'tiny'"):
        pretrain.Config(corpus="c", out="o", preset="tinny")  # type: ignore[arg-type]
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"The mill of town {number} stands by a river." for number in range(30)))
    manifest = prepare.run(prepare.Config(source=text, out=tmp_path / "corpus", vocab_size=100))  # type: ignore[arg-type]
    assert manifest["counts"]["train"]["documents"] == 28 and manifest["settings"]["vocab_size"] == 100

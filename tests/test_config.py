"""bertlab/config.py: what a configuration may say, what is refused, and with which words."""

import json
import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab import __version__
from bertlab.config import load, save, to_dict
from bertlab.errors import ConfigError
from bertlab.schema import docs, leaves


@dataclass(frozen=True, kw_only=True)
class Optim:
    lr: float = 1e-3
    """Peak learning
    rate."""
    fused: bool = False
    warmup: int | None = None


@dataclass(frozen=True, kw_only=True)
class Config:
    out: str
    """Where the run goes."""
    steps: int = 100
    hidden_size: int = 128
    pooling: Literal["cls", "mean", "no"] = "cls"
    length: Literal[128, 512] = 128
    source: tuple[str, ...] = ()
    sizes: tuple[int, ...] = (1, 2)
    dev: str | None = None
    clip: float | None = 1.0
    optim: Optim = field(default_factory=Optim)

    def __post_init__(self) -> None:
        if self.steps > 10**6:
            raise ConfigError("steps and the corpus do not fit")


@dataclass(frozen=True, kw_only=True)
class Preset:
    optim: Optim = Optim(lr=0.5, warmup=7)


def from_text(folder: Path, text: str, **overrides: Any) -> Config:
    path = folder / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return load(Config, [str(path)], {"out": "run", **overrides})


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        from_text(folder, text)
    message = str(refused.value)
    assert "\n" not in message
    return message.replace(f"{folder}/", "")


def test_what_nobody_gives_keeps_its_default():
    assert load(Config, (), {"out": "run"}) == Config(out="run")


def test_a_file_reaches_every_kind_of_value(tmp_path):
    text = """
        # a comment
        steps: 1_000
        pooling: mean
        length: 512
        source: [a.txt, "b c.txt"]
        sizes: [3]
        dev: d.csv
        clip: null
        optim:
          lr: 1e-4
          fused: yes
          warmup: 10
    """
    given = from_text(tmp_path, text)
    wanted = Config(out="run", steps=1000, pooling="mean", length=512, source=("a.txt", "b c.txt"), sizes=(3,), dev="d.csv", clip=None)
    assert given == Config(**{**vars(wanted), "optim": Optim(lr=1e-4, fused=True, warmup=10)})


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "0.0001", "1.0e-4", ".0001", "+1e-04"])
def test_a_number_is_a_number_however_it_is_written(tmp_path, text):
    assert from_text(tmp_path, f"optim: {{lr: {text}}}").optim.lr == 1e-4


def test_a_single_value_is_a_list_of_one_and_a_whole_number_is_a_number(tmp_path):
    given = from_text(tmp_path, "source: a.txt\noptim.lr: 2\n")
    assert given.source == ("a.txt",)
    assert (given.optim.lr, type(given.optim.lr)) == (2.0, float)


@pytest.mark.parametrize("text", ["", "# nothing\n", "optim:\n", "optim: {}\n", "\ufeff# nothing\n", "---\n"])
def test_an_empty_file_or_section_changes_nothing(tmp_path, text):
    assert from_text(tmp_path, text) == Config(out="run")


def test_later_files_win_key_by_key_and_overrides_win_over_files(tmp_path):
    (tmp_path / "a.yaml").write_text("steps: 1\nhidden_size: 2\noptim: {lr: 3, warmup: 4}\nsource: [a, b]\n")
    (tmp_path / "b.yaml").write_text("hidden_size: 5\noptim: {lr: 6}\nsource: [c]\n")
    files = [str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]
    given = load(Config, files, {"out": "run", "optim.lr": 7})
    assert given == Config(out="run", steps=1, hidden_size=5, source=("c",), optim=Optim(lr=7.0, warmup=4))


def test_a_default_instance_of_a_section_is_kept_where_nothing_is_given():
    assert load(Preset, (), {"optim.lr": 1.5}).optim == Optim(lr=1.5, warmup=7)
    assert leaves(Preset)["optim.warmup"].default == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: 1\nhiden_size: 3", "x.yaml:2: unknown key 'hiden_size': did you mean 'hidden_size'?"),
        ("optim:\n  lrr: 3", "x.yaml:2: unknown key 'optim.lrr': did you mean 'optim.lr'?"),
        ("lr: 3", "x.yaml:1: unknown key 'lr': did you mean 'optim.lr'?"),
        ("optm: {lr: 3}", "x.yaml:1: unknown key 'optm': did you mean 'optim'?"),
        ("source: [{a: 1}]", "x.yaml:1: source wants a list of text, not [a section of keys]"),
        ("hidden-size: 3", "x.yaml:1: unknown key 'hidden-size': did you mean 'hidden_size'?"),
        ("zzzzzz: 3", "x.yaml:1: unknown key 'zzzzzz'"),
        ("steps: 1\n\nsteps: 2", "x.yaml:3: duplicate key 'steps', first given at x.yaml:1: remove one of them"),
        ("optim: {lr: 1}\noptim.lr: 2", "x.yaml:2: duplicate key 'optim.lr', first given at x.yaml:1: remove one of them"),
        ("optim: {lr: 1}\noptim: {}", "x.yaml:2: duplicate key 'optim', first given at x.yaml:1: remove one of them"),
        ("steps: many", "x.yaml:1: steps wants a whole number, not many"),
        ("steps: 3.0", "x.yaml:1: steps wants a whole number, not 3.0"),
        ("steps: 010", "x.yaml:1: steps wants a whole number, not 010"),
        ("steps: 1:30", "x.yaml:1: steps wants a whole number, not 1:30"),
        ("steps: true", "x.yaml:1: steps wants a whole number, not true"),
        ("steps: '3'", "x.yaml:1: steps wants a whole number, not '3': write it without quotes"),
        ("steps:", "x.yaml:1: steps wants a whole number, not nothing"),
        ("steps: [1]", "x.yaml:1: steps wants a whole number, not [1]"),
        ("steps: {a: 1}", "x.yaml:1: steps wants a whole number, not a section of keys"),
        ("clip: none", "x.yaml:1: clip wants a finite number, or null to switch it off, not none"),
        ("clip: .inf", "x.yaml:1: clip wants a finite number, or null to switch it off, not .inf"),
        ("optim:\n  lr: .nan", "x.yaml:2: optim.lr wants a finite number, not .nan"),
        ("optim:\n  lr: 1e999", "x.yaml:2: optim.lr wants a finite number, not 1e999"),
        ("optim: {fused: 1}", "x.yaml:1: optim.fused wants true or false, not 1"),
        ("optim: 3", "x.yaml:1: optim is a section: give optim.lr, optim.fused, optim.warmup"),
        ("pooling: maen", "x.yaml:1: pooling wants one of 'cls', 'mean', 'no', not maen: did you mean 'mean'?"),
        ("pooling: no", "x.yaml:1: pooling wants one of 'cls', 'mean', 'no', not no, which YAML reads as bool: quote it, as 'no'"),
        ("length: 129", "x.yaml:1: length wants one of 128, 512, not 129"),
        ("dev: no", "x.yaml:1: dev wants text, or to be left out, not no, which YAML reads as bool: quote it, as 'no'"),
        ("out: 2024", "x.yaml:1: out wants text, not 2024, which YAML reads as int: quote it, as '2024'"),
        ("out:", "x.yaml:1: out wants text, not nothing, which YAML reads as null"),
        ("source: [a, yes]", "x.yaml:1: source wants a list of text, not [a, yes], which YAML reads as bool: quote it, as 'yes'"),
        ("source: null", "x.yaml:1: source wants a list of text, not null, which YAML reads as null: quote it, as 'null'"),
        ("sizes: [1, two]", "x.yaml:1: sizes wants a list of whole numbers, not [1, two]"),
        ("- a\n- b", "x.yaml:1: a configuration is lines of `key: value`, not a list"),
        ("\njust words", "x.yaml:2: a configuration is lines of `key: value`, not a single value"),
        ("[a]: 1", "x.yaml:1: a key is one word, not a list"),
        ("steps: 1\nout: &a x", "x.yaml:2: not valid YAML: an anchor (&) or alias (*) is not allowed: write the value out, or quote it"),
        ("out: *a", "x.yaml:1: not valid YAML: an anchor (&) or alias (*) is not allowed: write the value out, or quote it"),
        ("steps: !!python/name:os.system 1", "x.yaml:1: not valid YAML: a tag (!) is not allowed: write the value out, or quote it"),
        ("steps: 1\n--- \nsteps: 2", "x.yaml:2: not valid YAML: but found another document"),
        ("steps: 1\nout: [", "x.yaml:2: not valid YAML: expected the node content, but found '<stream end>'"),
        ("steps: 1\nout: \x01", "x.yaml:2: not valid YAML: the character U+0001 is not allowed"),
        ("steps: 2000000", "steps and the corpus do not fit"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place_and_a_way_out(tmp_path, text, message):
    assert refusal(tmp_path, text) == message


def test_a_file_that_is_no_configuration_is_refused(tmp_path):
    path = tmp_path / "x.yaml"
    with pytest.raises(ConfigError, match=r"x.yaml does not exist: --config wants a YAML file"):
        load(Config, [str(path)])
    with pytest.raises(ConfigError, match="is a folder"):
        load(Config, [str(tmp_path)])
    path.write_bytes(b"steps: 1\nout: \xff\n")
    with pytest.raises(ConfigError, match=r"x.yaml:2: not UTF-8 text"):
        load(Config, [str(path)])
    path.write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigError, match="larger than 1 MB"):
        load(Config, [str(path)])
    path.write_text("[" * 5000)
    with pytest.raises(ConfigError, match="nested too deeply"):
        load(Config, [str(path)])


def test_what_must_be_given_is_named():
    with pytest.raises(ConfigError, match=r"missing out: give it on the command line \(--out VALUE\) or in a --config file"):
        load(Config)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("steps", "12", 12),
        ("out", "no", "no"),
        ("out", "none", "none"),
        ("dev", "none", None),
        ("dev", "x", "x"),
        ("clip", "null", None),
        ("clip", "1e-4", 1e-4),
        ("clip", 2, 2.0),
        ("clip", None, None),
        ("pooling", "no", "no"),
        ("length", "512", 512),
        ("sizes", ["3", "4"], (3, 4)),
        ("sizes", (3, 4), (3, 4)),
        ("source", "a", ("a",)),
    ],
)
def test_an_override_is_the_value_or_its_text(name, text, value):
    got = getattr(load(Config, (), {"out": "run", name: text}), name)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", "3.0", "steps wants a whole number, not '3.0'"),
        ("steps", 3.0, "steps wants a whole number, not 3.0"),
        ("steps", True, "steps wants a whole number, not True"),
        ("steps", None, "steps wants a whole number, not None"),
        ("steps", "9" * 5000, "steps wants a whole number, not '" + "9" * 61),
        ("out", 3, "out wants text, not 3"),
        ("optim.lr", float("nan"), "optim.lr wants a finite number, not nan"),
        ("optim.lr", [1], "optim.lr wants a finite number, not [1]"),
        ("optim.fused", "perhaps", "optim.fused wants true or false, not 'perhaps'"),
        ("pooling", "maen", "pooling wants one of 'cls', 'mean', 'no', not 'maen': did you mean 'mean'?"),
        ("optim", {"lr": 3}, "optim is a section: give optim.lr, optim.fused, optim.warmup"),
        ("stepz", 3, "unknown key 'stepz': did you mean 'steps'?"),
    ],
)
def test_a_wrong_override_is_refused(name, value, message):
    with pytest.raises(ConfigError) as refused:
        load(Config, (), {"out": "run", name: value})
    assert str(refused.value) == message


def test_the_docstring_below_a_field_is_its_help():
    assert docs(Config) == {"out": "Where the run goes.", "optim.lr": "Peak learning rate."}


def test_a_saved_config_says_what_wrote_it_and_is_plain(tmp_path):
    config = Config(out="run", source=("a", "b"), dev="no")
    save(config, tmp_path / "config.yaml")
    assert (tmp_path / "config.yaml").read_text().startswith(f"# bertlab test_config, version {__version__}: ")
    assert json.loads(json.dumps(to_dict(config)))["optim"] == {"lr": 1e-3, "fused": False, "warmup": None}


TEXTS = st.one_of(
    st.text(),
    st.text(st.sampled_from(string.printable)),
    st.sampled_from(["no", "null", "~", "", "1e-4", "010", "1:30", "2024-01-01", "=", "<<", "&a", "!b", "- c", "x: y", "\ud800", "\ufeff"]),
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=100, deadline=None)
@given(
    out=TEXTS,
    dev=st.none() | TEXTS,
    source=st.lists(TEXTS).map(tuple),
    sizes=st.lists(st.integers(-(10**90), 10**90)).map(tuple),
    pooling=st.sampled_from(["cls", "mean", "no"]),
    clip=st.none() | NUMBERS,
    lr=NUMBERS,
    fused=st.booleans(),
)
def test_what_is_saved_reads_back_equal(tmp_path_factory, out, dev, source, sizes, pooling, clip, lr, fused):
    optim = Optim(lr=lr, fused=fused)
    config = Config(out=out, dev=dev, source=source, sizes=sizes, pooling=pooling, clip=clip, optim=optim)
    path = tmp_path_factory.getbasetemp() / "saved.yaml"
    save(config, path)
    again = load(Config, [str(path)])
    assert again == config
    assert repr(again) == repr(config)  # -0.0 and 0.0 are equal


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.sampled_from("steps:optim.lr[]{}&*!-#'\",|>%@ \n\t1e")))
def test_whatever_stands_in_a_file_there_is_a_config_or_one_line(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text)
    try:
        assert isinstance(load(Config, [str(path)], {"out": "run"}), Config)
    except ConfigError as refused:
        assert "\n" not in str(refused)

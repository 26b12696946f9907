"""The versions that were tested are pinned, and none that may be installed is below the fix of a known hole (S17)."""

import re
from configparser import ConfigParser
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# CVE-2025-32434 and CVE-2026-24747 (weights_only=True runs code), CVE-2026-4372 and CVE-2026-1839 (hub code and rng_state.pth in
# transformers), loading scripts of datasets, safetensors that left files of zeros (huggingface/safetensors#762)
FIXED = {"torch": (2, 10), "transformers": (5, 3), "datasets": (4, 0), "safetensors": (0, 8)}


def parts(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text.partition("+")[0])))


def pinned() -> dict[str, str]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    found = {}
    for line in filter(None, lines):
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+!]+)", line)
        assert match, f"{line!r} pins no version"
        name = match[1].lower().replace("_", "-")
        assert name not in found, f"{name} is pinned twice"
        found[name] = match[2]
    return found


def required() -> dict[str, str]:
    """name -> range of what bertlab installs, extras too."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"] + "".join(setup["options.extras_require"].values())
    found = [re.match(r"([A-Za-z0-9._-]+)(\S*)$", line.strip()) for line in lines.splitlines()]
    return {match[1].lower().replace("_", "-"): match[2] for match in found if match and match[1] != "bertlab"}


def test_everything_that_is_installed_is_pinned_once() -> None:
    missing = required().keys() - pinned().keys()
    assert not missing, f"constraints.txt has no {missing}"
    assert len(pinned()) > 60


@pytest.mark.parametrize("name", FIXED)
def test_no_version_with_a_known_hole_can_be_installed(name: str) -> None:
    lowest = re.search(r">=([\d.]+)", required()[name])
    assert lowest is not None and parts(lowest[1]) >= FIXED[name]
    assert parts(pinned()[name]) >= FIXED[name] and parts(version(name)) >= FIXED[name]


def test_no_package_comes_from_an_address_or_a_file() -> None:
    for file in ("constraints.txt", "setup.cfg"):
        text = "\n".join(line.partition("#")[0] for line in (ROOT / file).read_text().splitlines())
        assert not re.search(r"(?i)://|@ |--(extra-)?index-url|--find-links|--trusted-host|-e ", text), file

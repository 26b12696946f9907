"""Names on the hub: what is one, what seems to be meant, and one line where nothing can be had."""

import errno
import time
from typing import Any

import huggingface_hub
import pytest

from bertlab.errors import ConfigError
from bertlab.hub import downloaded, meant, name_on_hub
from bertlab.model.facts import fetch
from bertlab.tokens import tokenizer

NO_NAMES = (
    "hf:",
    "hf://bert-base-uncased",
    "hf: me/small",
    "hf:a/b/c",
    "hf:me/small@main",
    "hf:me/small#main",
    "hf:https://huggingface.co/x",
)


@pytest.mark.parametrize("source", NO_NAMES)
def test_what_is_no_name_is_one_line_and_nobody_is_asked(source: str) -> None:
    for ask in (name_on_hub, fetch, tokenizer.load):
        with pytest.raises(ConfigError, match=r"is no name on the hub: write hf:NAME or hf:OWNER/NAME$"):
            ask(source)


@pytest.mark.parametrize("source", ["hf:bert-base-uncased", "hf:me/small", "hf:a.b_c-d/e"])
def test_a_name_is_what_stands_behind_the_prefix(source: str) -> None:
    assert name_on_hub(source) == source.removeprefix("hf:")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("bert-base-uncased", "hf:bert-base-uncased"),
        ("me/small", "hf:me/small"),
        ("huggingface:me/small", "hf:me/small"),
        ("HF:small", "hf:small"),
        ("https://huggingface.co/me/small", "hf:me/small"),
        ("a/b/c", ""),
        ("my model", ""),
        ("../x", ""),
    ],
)
def test_what_seems_to_be_meant(text: str, name: str) -> None:
    assert meant(text) == name


@pytest.mark.parametrize(("offline", "way_out"), [(False, "check the name and the network"), (True, "HF_HUB_OFFLINE is set: unset it")])
def test_what_cannot_be_had_is_one_line_that_names_it(monkeypatch: pytest.MonkeyPatch, offline: bool, way_out: str) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("Got: ConnectError\nAn error happened")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(ConfigError) as caught:
        downloaded("hf:me/small", ["*.json"])
    assert str(caught.value) == f"hf:me/small cannot be had (Got: ConnectError): {way_out}, or give the path of a folder"


def test_a_full_disk_is_said_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: Any, **__: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fill)
    with pytest.raises(OSError, match="No space left"):
        downloaded("hf:me/small", ["*.json"])


def test_the_line_comes_at_once_where_there_is_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"^hf:nobody/nothing cannot be had \(.*\): "):
        fetch("hf:nobody/nothing")
    assert time.monotonic() - began < 60

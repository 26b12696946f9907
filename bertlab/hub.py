"""Names on the Hugging Face hub, written hf:NAME or hf:OWNER/NAME, and what is fetched of them: nowhere else does bertlab ask it."""

import errno
import re
from collections.abc import Sequence

from bertlab.errors import ConfigError, first_line

REMOTE = "hf:"
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
_OTHERWISE = re.compile(r"(hf:|huggingface:|https?://(huggingface\.co|hf\.co)/(datasets/)?|//)+", re.IGNORECASE)  # how people write one


def name_on_hub(source: str, form: str = "hf:NAME or hf:OWNER/NAME") -> str:
    """The name of a source that begins with hf:. Raises ConfigError, with the `form` that it should have, for what is none."""
    name = source.removeprefix(REMOTE)
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{source} is no name on the hub: write {form}")
    return name


def meant(text: str) -> str:
    """hf:NAME, where that is what a text seems to say, else ""."""
    name = _OTHERWISE.sub("", text, count=1) if _OTHERWISE.match(text) else text
    return f"{REMOTE}{name}" if _NAME.fullmatch(name) else ""


def downloaded(source: str, patterns: Sequence[str]) -> str:
    """The folder of a name's files of these patterns, from the cache or the network. Raises ConfigError where neither has them."""
    from huggingface_hub import snapshot_download

    name = name_on_hub(source)
    try:
        return snapshot_download(name, allow_patterns=list(patterns))
    except (OSError, ValueError) as error:  # "not found", "no network" and "not in the cache" are among them
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ConfigError(f"{source} cannot be had ({first_line(error)}): {way_out()}, or give the path of a folder") from None


def way_out() -> str:
    """What to do where the hub gives nothing."""
    from huggingface_hub import constants

    return "HF_HUB_OFFLINE is set: unset it" if constants.HF_HUB_OFFLINE else "check the name and the network"

"""bertlab explore: a model opened up in a browser, on this machine alone: attention, masked words, what weighed on an answer, senses.

    bertlab explore DIR
    bertlab explore DIR --text "the [MASK] of the river" --out page.html

The first serves a page at an address that it prints, until Ctrl-C; the second writes one file that needs no server, of one text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertlab.corpus.dialect import Dialect
from bertlab.errors import ConfigError
from bertlab.schema import POSITIONAL, Settings

if TYPE_CHECKING:
    from bertlab.pages.serving import Server


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    model: str = field(metadata=POSITIONAL)
    """A model folder (RUN/model), pretrained or fine-tuned, a published BERT or sentence-transformers folder, or hf:NAME."""
    out: str | None = None
    """Write a page of one text (--text) to this file instead, NAME.html; an earlier one of bertlab's is replaced."""
    text: str | None = None
    """With out: the text that is looked at, in which [MASK] stands for a missing word."""
    text_b: str | None = None
    """With out: the second text of a pair."""
    word: str | None = None
    """With out: a word whose vectors are shown in the contexts of --contexts."""
    contexts: str | None = None
    """With out: a text file of that word's contexts, one a line, a blank line between senses."""
    encoding: str = "utf-8"
    """Of contexts: what its bytes stand for, as cp1252 in files of Windows."""
    index: str | None = None
    """Vectors of bertlab embed, made by this model: the nearest of its texts are shown too."""
    port: int = 0
    """Where the page is served, on 127.0.0.1; 0: any port that is free."""

    def __post_init__(self) -> None:
        super().__post_init__()
        of_snapshot = {"text": self.text, "text_b": self.text_b, "word": self.word, "contexts": self.contexts}
        if self.out is None and (given := [name for name, value in of_snapshot.items() if value is not None]):
            raise ConfigError(f"{given[0]} is for a page in a file: give --out NAME.html too, or type it into the page")
        if self.out is not None and Path(self.out).suffix != ".html":
            raise ConfigError(f"out={self.out}: the page is one file: give a name that ends in .html")
        if self.out is not None and self.text is None:
            raise ConfigError(f"out={self.out}: a page in a file is of one text: give --text too, or leave --out out to be asked for texts")
        if (self.word is None) != (self.contexts is None):
            raise ConfigError("word and contexts: give both or none")
        Dialect(encoding=self.encoding)  # raises for what is none
        if not 0 <= self.port < 2**16:
            raise ConfigError(f"port={self.port} is not between 0 and 65535")


def run(config: Config) -> None:
    """Serve the page until Ctrl-C, or write it.

    Raises ConfigError (folder, index of another model, a port that is taken), DataError (contexts), CorruptError.
    """
    from bertlab.exploring.questions import nearest_texts, questions
    from bertlab.inference import LoadedModel
    from bertlab.signals import Preempted

    near = nearest_texts(config.index, config.model) if config.index else None
    model = LoadedModel(config.model, "cpu")  # a text at a time is no work for a GPU
    answers = questions(model, Path(config.model).name, near)
    if config.out is not None:
        _write(config, answers)
        return
    with serve(answers, config.port) as server:
        print(f"{config.model} is open at\n\n    {server.address}\n\nfor this machine alone; Ctrl-C ends it", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt as error:
            if isinstance(error, Preempted):
                raise
            print()  # behind the terminal's ^C


def serve(answers: dict[str, Any], port: int) -> "Server":
    """A server of the page, bound to its port and not yet at work. Raises ConfigError where the port is taken or not permitted."""
    from bertlab.pages.explore import page
    from bertlab.pages.serving import Server

    try:
        return Server(page(), answers, port)
    except OSError as error:
        raise ConfigError(f"port {port} cannot be used ({error.strerror}): give another --port, or 0 for any that is free") from None


def _write(config: Config, answers: dict[str, Any]) -> None:
    from bertlab.disk import refuse_others, write_text
    from bertlab.pages.explore import page
    from bertlab.pages.html import MARK

    assert config.out is not None
    refuse_others(Path(config.out), ".html", MARK)
    asked = {"text": config.text, "text_b": config.text_b}
    about, looked = answers["about"]({}), answers["look"](asked)
    classes = "classes" in (looked["answer"] or {}) or "value" in (looked["answer"] or {})
    snapshot = {"about": about, **asked, "looked": looked, "why": answers["attribute"](asked) if classes else None}
    snapshot["near"] = answers["near"](asked) if about["index"] else None
    snapshot["parted"] = (
        answers["contexts"]({"word": config.word, "groups": _groups(config.contexts, Dialect(encoding=config.encoding))})
        if config.contexts
        else None
    )
    text = page(snapshot)
    write_text(Path(config.out), text)
    print(f"written     {config.out}: {len(text.encode()) / 1000:,.0f} kB, opens by itself")


def _groups(path: str, dialect: Dialect) -> Sequence[Sequence[str]]:
    """Lines of a text file, parted where lines are blank."""
    from collections import Counter

    from bertlab.corpus.files import lines

    groups: list[list[str]] = [[]]
    for _, line in lines(Path(path), "stop", Counter(), dialect):
        if line and line.strip():
            groups[-1].append(line.strip())
        elif groups[-1]:
            groups.append([])
    return [group for group in groups if group]

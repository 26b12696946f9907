"""The document: what sources give and everything after them takes. Knows nothing of where it came from but names."""

from dataclasses import dataclass

from bertlab.corpus.wikitext import Site


@dataclass(frozen=True)
class Document:
    """A text with its name; paragraphs are separated by "\\n".

    `id` is "<file name>:<line number>", "<file name>" where a file is one document, or what the id column holds (not checked to be
    unique); `source` is the file name, or the name of a `datasets` source. A file in a folder is named by its path from that folder,
    the folder's own name first. `title` and `licence` are empty where the source names none. With `site`
    (bertlab.corpus.wikitext.Site) the text is an article's wikitext.
    """

    id: str
    source: str
    text: str
    title: str = ""
    licence: str = ""
    site: Site | None = None

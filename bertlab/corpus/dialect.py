"""How text files and tables are written where that is not what their name promises: what a person says of them, never a guess.

A verb that reads tables extends Dialect, so that both options mean the same everywhere; what reads a file is given one. And the lines of
a table that is written, where an office's spreadsheet is to open it too.
"""

import codecs
import csv
from collections.abc import Iterable
from dataclasses import dataclass
from io import StringIO
from typing import Any

from bertlab.errors import ConfigError
from bertlab.schema import Settings

TABS = ("tab", "\\t", "\t")  # what a person may write for one
ASCII = bytes(range(32, 127))
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a cell begins with that Excel computes


@dataclass(frozen=True, kw_only=True)
class Dialect(Settings):
    """Raises ConfigError for what no file is written in."""

    separator: str | None = None
    """What stands between the cells of CSV and TSV files, as ; in those of a European Excel (or , or | or tab). Default: a comma in .csv, a
    tab in .tsv."""
    encoding: str = "utf-8"
    """What the bytes of text files, CSV, TSV and JSONL stand for, as cp1252 in those of Windows, or latin-1. It is not guessed, but a file
    that begins with UTF-8's byte order mark is UTF-8."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.separator is not None and self.separator not in TABS and (len(self.separator) != 1 or self.separator in '"\r\n\0'):
            raise ConfigError(f"separator={self.separator!r}: give one character, as ; or | or tab")
        try:
            alike = ASCII.decode(self.encoding) == ASCII.decode()
        except (LookupError, UnicodeError):  # a name of no encoding of text, too
            alike = False
        if not alike:
            raise ConfigError(
                f"encoding={self.encoding}: give one that has ASCII in it, as utf-8, cp1252 or latin-1, or convert it (iconv -t UTF-8)"
            )

    @property
    def dialect(self) -> "Dialect":
        """These two alone."""
        return Dialect(separator=self.separator, encoding=self.encoding)

    def between_cells(self, kind: str) -> str:
        """The character between the cells of a "csv" or a "tsv" file."""
        if self.separator is None:
            return "," if kind == "csv" else "\t"
        return "\t" if self.separator in TABS else self.separator

    @property
    def name(self) -> str:
        """Of the encoding, for a person."""
        return "UTF-8" if self.is_utf8 else self.encoding

    @property
    def otherwise(self) -> str:
        """What to do where bytes are not of this encoding and a verb that has --invalid-utf8 went on."""
        mend = "some files are of another? one encoding is for all that is read: convert the others first (iconv)"
        return f"{'files of Windows? --encoding cp1252 reads them' if self.is_utf8 else mend} (--invalid-utf8 stop names the first)"

    @property
    def is_utf8(self) -> bool:
        return codecs.lookup(self.encoding).name in ("utf-8", "utf-8-sig")


AS_NAMED = Dialect()  # by the file's name, in UTF-8


def table_line(cells: Iterable[Any], separator: str, excel: bool = False) -> str:
    """A line of CSV or TSV. For Excel no text is a formula (owasp.org/www-community/attacks/CSV_Injection: a stranger's text can call other
    programs), and the file is to begin with a byte order mark, by which it knows UTF-8: the encoding `encoding_for(excel)`."""
    line = StringIO()
    if excel:
        cells = [f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell for cell in cells]
    csv.writer(line, delimiter=separator, lineterminator="\n").writerow(cells)
    return line.getvalue()


def between_excel_cells(separator: str | None, source: Dialect) -> str:
    """What stands between the cells of a table for Excel: what a person says, else what does in the CSV that was read. Raises ConfigError
    for what stands between no cells."""
    return Dialect(separator=separator or source.separator).between_cells("csv")


def encoding_for(excel: bool) -> str:
    """Of a table that is written: UTF-8, for Excel with a byte order mark."""
    return "utf-8-sig" if excel else "utf-8"

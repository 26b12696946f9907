"""Which files are read, how they are opened, and how their bytes become text.

Everything streams: a file of any size costs one line of memory (a line of 100 MB costs 100 to 500 MB while it is decoded).
Knows nothing of what the text means. Bytes are UTF-8, or what a person says that they
are (dialect.py); no encoding is guessed.
"""

import bz2
import gzip
import io
import lzma
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from bertlab.corpus.dialect import AS_NAMED, Dialect
from bertlab.errors import ConfigError, DataError

Kind = Literal["text", "jsonl", "csv", "tsv", "parquet"]
InvalidUtf8 = Literal["replace", "drop", "stop"]

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
KINDS: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",  # much JSON of one object a line goes by this name; any other JSON stops at its first line
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
# Read as text, these would be noise that nobody notices: an archive's headers, a document's markup, a picture's bytes.
ARCHIVES = frozenset({".tar", ".tgz", ".zip", ".7z", ".rar"})
DOCUMENTS = {".pdf", ".doc", ".docx", ".odt", ".rtf", ".ppt", ".pptx", ".epub", ".html", ".htm", ".svg"}
SHEETS = {".xls", ".xlsx"}
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".ico"}
NOT_TEXT = ARCHIVES | DOCUMENTS | SHEETS | PICTURES | {".mp3", ".wav", ".mp4", ".arrow", ".pkl"}
CHUNK_BYTES = 1 << 16
# Lines that are not ASCII and all valid UTF-8 after which a file is UTF-8, before its end or at it: one may be so by chance, as
# "SOCI\xc9T\xc9\xbb" of cp1252 is.
SURELY_UTF8, LIKELY_UTF8 = 8, 2
LARGEST_LINE = 1 << 28  # bytes; a small archive may unpack to a line without end
# Text packs to a third or a tenth, logs to a hundredth. A bomb is what unpacks to more than this many times itself, beyond the first 64 MB.
MOST_TIMES, FREE_BYTES = 200, 1 << 26
UTF8_BOM = b"\xef\xbb\xbf"
OTHER_BOMS = (b"\xff\xfe", b"\xfe\xff")  # UTF-16, and UTF-32 little-endian begins alike


# ---- names


def find_files(paths: Sequence[str]) -> list[Path]:
    """The files behind `paths`: files as given, folders walked in sorted order, hidden names skipped inside them.

    Raises ConfigError for a path that does not exist, DataError when there is no file at all.
    """
    files: list[Path] = []
    for name in paths:
        path = Path(name)
        if not path.exists():
            raise ConfigError(f"{name} does not exist: give a file or a folder of files")
        files.extend(_walk(path, frozenset()) if path.is_dir() else [path])
    if not files:
        raise DataError(f"no file found in {', '.join(paths) or 'an empty list of paths'}: hidden files and folders are not read")
    return files


def _walk(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:  # a link to a folder that holds it
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _walk(path, above | {real})
        elif path.is_file():
            yield path
        elif not path.exists():
            raise ConfigError(f"{path} is a link to nothing: remove it or mend it")


def kind_of(path: Path | str) -> Kind:
    """What a file holds, by its name without the compression ending; a name with no ending that is known is text.

    Raises DataError for the few endings that are known not to be text (archives, office documents, markup, pictures).
    """
    ending = ending_of(path)
    if ending in NOT_TEXT:
        mend = "unpack it" if ending in ARCHIVES else "convert it to text, JSONL, CSV or Parquet"
        if ending in SHEETS:
            mend = 'save the sheet as "CSV UTF-8", or by pandas: read_excel(FILE, sheet_name=..., header=...).to_csv(NAME.csv, index=False)'
        raise DataError(f"{path}: a {ending} file is not text: {mend}")
    return KINDS.get(ending, "text")


def ending_of(path: Path | str) -> str:
    """The ending of a name, in lower case, without that of a compression; "" where there is none."""
    name = Path(path)
    return (name.with_suffix("") if name.suffix.lower() in COMPRESSIONS else name).suffix.lower()


# ---- bytes


def open_bytes(path: Path | str, tally: Counter[str] | None = None) -> BinaryIO:
    """Open a file for reading, decompressed as it streams (.gz .bz2 .xz .zst by the name); close it, or use it in a `with`.

    tally["bytes"] grows by the bytes of the file as it lies on the disk, while they are read. A truncated or damaged archive raises
    DataError with the file's name when the damage is reached: never a silent end.
    What no reader can see: an archive of several streams cut exactly between two of them.
    """
    path = Path(path)
    if path.suffix.lower() not in COMPRESSIONS:
        return (
            cast(BinaryIO, io.BufferedReader(_CountedFile(path, tally), buffer_size=CHUNK_BYTES)) if tally is not None else path.open("rb")
        )
    if path.is_file() and path.stat().st_size == 0:  # gzip, bz2 and zstd readers take zero bytes for an empty text
        raise DataError(f"{path}: an empty file is no {path.suffix} archive: copy or download it again")
    return cast(BinaryIO, io.BufferedReader(_ChunkReader(_decompressed(path, tally)), buffer_size=CHUNK_BYTES))


class _CountedFile(io.FileIO):
    """A file that counts the bytes read from it."""

    def __init__(self, path: Path, tally: Counter[str] | None) -> None:
        super().__init__(path, "rb")
        self._tally: Counter[str] = Counter() if tally is None else tally

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer) or 0
        self._tally["bytes"] += count
        return count


def _decompressed(path: Path, tally: Counter[str] | None) -> Iterator[bytes]:
    """The decompressed bytes of an archive in chunks of bounded size; every reader's own way to say "damaged" becomes one DataError."""
    ending = path.suffix.lower()
    raw = _CountedFile(path, tally)
    with io.BufferedReader(raw, buffer_size=CHUNK_BYTES) as packed, ExitStack() as opened:
        try:
            if ending == ".gz":
                chunks = _chunks(opened.enter_context(gzip.GzipFile(fileobj=packed)))
            elif ending == ".bz2":
                chunks = _streams(packed, bz2.BZ2Decompressor)
            elif ending == ".xz":
                chunks = _streams(packed, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ))
            else:
                from pyarrow import CompressedInputStream, PythonFile

                chunks = _chunks(opened.enter_context(CompressedInputStream(PythonFile(packed, mode="r"), "zstd")))
            given = 0
            for chunk in chunks:
                given += len(chunk)
                refuse_bomb(path, raw.tell(), given)
                yield chunk
        except DataError:
            raise
        except (EOFError, OSError, ValueError, lzma.LZMAError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk, not the archive
                raise
            raise DataError(f"{path}: the archive is truncated or damaged ({error}): copy or download it again") from None


def refuse_bomb(path: Path, packed: int, unpacked: int) -> None:
    """Raise DataError when a file of which `packed` bytes were read has given more than anything packed that somebody wrote does."""
    if unpacked > FREE_BYTES and unpacked > MOST_TIMES * packed:
        raise DataError(
            f"{path}: it unpacks to over {MOST_TIMES} times its size, {unpacked >> 20} MB so far: unpack it yourself if that is meant"
        )


def _chunks(stream: Any) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


def _streams(packed: Any, new: Callable[[], Any]) -> Iterator[bytes]:
    """Decompress one stream after another. The standard library's own file classes take a damaged second stream for the end."""
    data = packed.read(CHUNK_BYTES)
    while data:
        decompressor = new()
        while not decompressor.eof:
            if decompressor.needs_input and not data and not (data := packed.read(CHUNK_BYTES)):
                raise EOFError("it ends before its end mark")
            yield decompressor.decompress(data, 16 * CHUNK_BYTES)  # bounded: a small archive may hold gigabytes
            data = b""
        data = decompressor.unused_data.lstrip(b"\0")  # .xz allows zeros between streams
        while not data and (more := packed.read(CHUNK_BYTES)):
            data = more.lstrip(b"\0")


class _ChunkReader(io.RawIOBase):
    """A raw byte stream over an iterator of chunks, so that io.BufferedReader gives read and readline."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        taken = min(len(buffer), len(self._rest))
        buffer[:taken] = self._rest[:taken]
        self._rest = self._rest[taken:]
        return taken

    def close(self) -> None:
        if not self.closed:
            cast(Any, self._chunks).close()
        super().close()


# ---- text


def decode(data: bytes, encoding: str = "utf-8") -> tuple[str, int]:
    """Bytes as text without NUL, and how many characters had to be replaced by U+FFFD (those that the bytes spell do not count)."""
    data = data.replace(b"\0", b"")
    try:
        return data.decode(encoding), 0
    except UnicodeDecodeError:
        text = data.decode(encoding, errors="replace")
        spelt = "\ufffd".encode(encoding, errors="ignore")  # nothing in most encodings
        return text, text.count("\ufffd") - (data.count(spelt) if spelt else 0)


def decoded_lines(
    path: Path | str, *, keep_ends: bool = False, tally: Counter[str] | None = None, dialect: Dialect = AS_NAMED
) -> Iterator[tuple[int, str, int]]:
    """(line number from 1, the line, replaced characters in it). Only "\\n" and "\\r\\n" end a line; a byte order mark is removed,
    and a file that starts with UTF-8's is UTF-8, whatever `dialect` says of others that are read with it.

    Raises DataError for a file that starts with the byte order mark of UTF-16 or UTF-32, for one that is UTF-8 and was said to be of
    another encoding, and for a line of over 256 MB.
    """
    with open_bytes(path, tally) as stream:
        number, encoding = 0, dialect.encoding
        is_doubtful, of_utf8 = not dialect.is_utf8, 0
        while line := stream.readline(LARGEST_LINE + 1):
            number += 1
            if len(line) > LARGEST_LINE:
                raise DataError(f"{path}:{number}: a line of over {LARGEST_LINE >> 20} MB: is it text? Cut it, or leave the file out")
            if number == 1:
                if line.startswith(OTHER_BOMS):
                    raise DataError(f"{path}:1: UTF-16 or UTF-32 text: convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)")
                if line.startswith(UTF8_BOM):
                    line, encoding, is_doubtful = line.removeprefix(UTF8_BOM), AS_NAMED.encoding, False
            if is_doubtful and not line.isascii():
                is_doubtful = not decode(line)[1]
                of_utf8 += is_doubtful
                if is_doubtful and (of_utf8 >= SURELY_UTF8 or decode(line, encoding)[1]):
                    raise _is_utf8(f"{path}:{number}: as far as here it", encoding)
            if not keep_ends and line.endswith(b"\n"):
                line = line[: -2 if line.endswith(b"\r\n") else -1]
            text, replaced = decode(line, encoding)
            del line  # it may be 100 MB, and the text of it four times that
            yield number, text, replaced
        if is_doubtful and of_utf8 >= LIKELY_UTF8:
            raise _is_utf8(f"{path}: it", encoding)


def _is_utf8(what: str, said: str) -> DataError:
    mend = f"leave --encoding out, and convert those files that are {said} (iconv -f {said} -t UTF-8)"
    return DataError(f"{what} is UTF-8, not {said}, and would be read wrongly: {mend}")


def lines(
    path: Path | str, invalid_utf8: InvalidUtf8, tally: Counter[str], dialect: Dialect = AS_NAMED
) -> Iterator[tuple[int, str | None]]:
    """(line number from 1, the line without its "\\n" or "\\r\\n"); None for a line that the policy "drop" takes away.

    Invalid UTF-8 (or of what `dialect` says): "replace" puts U+FFFD, "drop" gives None, "stop" raises DataError with file and line.
    tally["invalid_utf8"] grows by the characters replaced, or by one for each line dropped.
    """
    for number, text, replaced in decoded_lines(path, tally=tally, dialect=dialect):
        if replaced and refused(f"{path}:{number}", replaced, invalid_utf8, tally, dialect):
            yield number, None
        else:
            yield number, text


def refused(place: str, replaced: int, invalid_utf8: InvalidUtf8, tally: Counter[str], dialect: Dialect | None = None) -> bool:
    """Count a text with `replaced` invalid characters; True when the policy drops it. Raises DataError when the policy is "stop".

    dialect: of a file whose encoding a person can name.
    """
    if invalid_utf8 == "stop":
        mend = "convert the file to UTF-8 (iconv)"
        if dialect is None or not dialect.is_utf8:  # with one that was said there is no other to say
            raise DataError(f"{place}: not valid {AS_NAMED.name if dialect is None else dialect.name}: {mend}")
        raise DataError(f"{place}: not valid UTF-8: say what it is (--encoding cp1252 for a file of Windows), or {mend}")
    tally["invalid_utf8"] += 1 if invalid_utf8 == "drop" else replaced
    return invalid_utf8 == "drop"

"""Plain-text books: Project Gutenberg's licence and credits taken off, hard line ends joined to paragraphs.

Costs: on one core without_licence takes 60 MB/s and unwrapped 4 to 16 (2 where each third line breaks a word); memory is a few times
that of the text.
Knows nothing of scanned pages: running heads and page numbers in the text stay. EPUB books are read by bertlab.corpus.epub.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, pairwise

# ---- the licence around a plain text

HEADER_LINES = 1_000  # the longest headers, of the 1990s, have 400
MARKER_CHARACTERS = 200  # a marker stands at the beginning of its line
CREDIT_LINES, CREDIT_CHARACTERS = 60, 3_000  # a paragraph of more lines, or with a longer one, is no credit, whatever its first words

_GUTENBERG = r"PROJECT GUTENBERG(?:['’]S)?,? ?E-?(?:BOOK|TEXT)"
_START = re.compile(rf"\s*\*{{2,}} ?START OF (?:THE |THIS )?{_GUTENBERG}", re.IGNORECASE)
_SMALL_PRINT_START = re.compile(r"\s*\*+ ?START ?\*+ ?THE SMALL PRINT", re.IGNORECASE)
_SMALL_PRINT_END = re.compile(r"\s*\*+ ?END ?\*{0,3} ?(?:OF )?THE SMALL PRINT", re.IGNORECASE)
_END = re.compile(
    rf"\s*\*{{2,}} ?END OF (?:THE |THIS )?{_GUTENBERG}"
    r"|\s*(?:This is the e|(?-i:E))nd of (?:the |this )?Project Gutenberg(?:['’]s | E-?book | E-?text | edition )",
    re.IGNORECASE,
)
_CREDIT = re.compile(
    r"[\s\[(_*]*(?:(?:This |The )?(?:e-?(?:text|book) )?(?:was )?"
    r"(?:produced|prepared|scanned|transcribed|digiti[sz]ed|created|proofread) (?:by|from)\b"
    r"|(?:credits|character set encoding|release date|language):|HTML version by|updated by|images generously made available"
    r"|note: (?:project gutenberg|images of)|transcriber['’]?s?['’]? notes?\b)",
    re.IGNORECASE,
)
_NOTE_HEADING = re.compile(r"[\s\[(_*]*transcriber['’]?s?['’]? notes?[\s:.\])_*]*", re.IGNORECASE)


def is_gutenberg(text_start: str) -> bool:
    """Whether a text that begins so has a Project Gutenberg header, told by its markers alone; 64 kB of a beginning are enough."""
    lines = text_start.split("\n", HEADER_LINES)[:HEADER_LINES]
    return _header_marker(lines) is not None or any(_marks(_SMALL_PRINT_START, line) for line in lines)


def is_licence_start(line: str) -> bool:
    """Whether Project Gutenberg's footer begins with this line."""
    return _marks(_END, line)


def without_licence(text: str) -> str:
    """The text without Project Gutenberg's header, footer and credits (see `lines_without_licence`); any other text as it is."""
    return "\n".join(lines_without_licence(text.split("\n")))


def lines_without_licence(lines: Iterable[str]) -> Iterator[str]:
    """The lines between the header and the footer, while they are read. At most 1,000 lines are held.

    The header ends with "*** START OF THE/THIS PROJECT GUTENBERG EBOOK ..." or, before 2004, with "*END*THE SMALL PRINT! ..."; it must end
    within the first 1,000 lines. The footer begins with "*** END OF ..." or "End of the Project Gutenberg EBook of ...", and ends with the
    file or with the next book's header, so that several books may stand in one file. Paragraphs straight after a header that begin as
    credits do ("Produced by", "Transcriber's Note") go too; of a note of several paragraphs the later ones stay.
    """
    stream = iter(lines)
    head = list(islice(stream, HEADER_LINES))
    marker = _header_marker(head)
    state = "text" if marker is None else "licence"
    held: list[str] = []  # the paragraph after a header, until it is known to be no credit
    title_goes_on = note = False
    for line in chain(head, stream):
        starts = _marks(marker or _START, line) or (marker is None and _marks(_SMALL_PRINT_END, line))
        if starts and (state == "licence" or _marks(_START, line)):
            marker, state, held, note = None, "credits", [], False
            title_goes_on = not line.rstrip().endswith("*")
        elif state == "licence":
            continue
        elif _marks(_END, line) or _marks(_SMALL_PRINT_START, line):
            yield from held
            state, held = "licence", []
        elif state == "text":
            yield line
        elif line.strip():
            held.append(line)
            if title_goes_on and len(held) <= 4 and line.rstrip().endswith("***"):
                held = []
            elif len(held) > CREDIT_LINES or len(line) > CREDIT_CHARACTERS:
                yield from held
                state, held = "text", []
        elif held:
            title_goes_on = False
            if note or _CREDIT.match(held[0][:MARKER_CHARACTERS]):
                note = len(held) == 1 and len(held[0]) < MARKER_CHARACTERS and _NOTE_HEADING.fullmatch(held[0]) is not None
            else:
                yield from held
                yield line
                state = "text"
            held = []
    if held and not _CREDIT.match(held[0][:MARKER_CHARACTERS]):
        yield from held


def _marks(marker: re.Pattern[str], line: str) -> bool:
    return marker.match(line[:MARKER_CHARACTERS]) is not None


def _header_marker(lines: Sequence[str]) -> re.Pattern[str] | None:
    """Which marker ends the header among the first lines of a file: the new one where both are there; None without any."""
    found = None
    for line in lines:
        if _marks(_START, line):
            return _START
        if _marks(_END, line):
            break
        if _marks(_SMALL_PRINT_END, line):
            found = _SMALL_PRINT_END
    return found


# ---- hard line ends

NARROWEST, WIDEST = 55, 100  # characters; Gutenberg's prose is 65 to 75 wide, its verse mostly below 55
SLACK = 8  # a line may end this much before the width: people and programs break lines differently
_FIRST_WORD = re.compile(r"\s*([^\s-]+)")
_LEFT_HALF = re.compile(r"(?:[^\W\d_]+-)*[^\W\d_]+(?=-\Z)")
_RIGHT_HALF = re.compile(r"\s*([^\W\d_]+)")
_WORD = re.compile(r"\w+(?:-\w+)*")
_SENTENCE_END = re.compile(r"[.!?][\"'”’»)]*\Z")
_DASH_BEFORE = re.compile(r"[^\s\-—](?:--?|—)\Z")  # a hyphen too
_DASH_AFTER = re.compile(r"\s*(?:--|—)[^\s\-—]")


def unwrapped(text: str) -> str:
    """Hard-wrapped lines joined to paragraphs, which "\\n" separates; verse, tables and lists stay lines; blank lines go.

    A line break is forced where the next word would not have fit the text's width (the length that 95 % of its broken lines keep to, less
    8). Lines between two blank lines are prose, and are joined, when most of their breaks are forced; not when every line begins with a
    capital and a break is not forced, as in verse. In prose a line set further in than the one before begins a paragraph, if that one
    ended a sentence or its break is not forced. A text whose width is not 55 to 100 characters is not hard-wrapped, and its lines stay:
    also Chinese or Japanese, 40 to a line.

    A hyphen at a line's end takes no space after it. It goes too when the two halves are letters, the second a small one, and the word is
    seen elsewhere in the text without a hyphen more often than with one; where that does not tell, it goes or stays as for most of the
    words for which it does; where none does, it goes when a half is seen nowhere else as a word of its own ("hap-pened"). A dash at the
    end or the beginning of a line takes no space either, unless it has one on its other side.
    """
    blocks = list(_blocks(text))
    lengths = sorted(len(line) for block in blocks for line in block[:-1])
    width = lengths[int(len(lengths) * 0.95)] if lengths else 0
    if not NARROWEST <= width <= WIDEST:
        return "\n".join(line.strip() for block in blocks for line in block)
    paragraphs = [paragraph for block in blocks for paragraph in _paragraph_lines(block, width)]
    broken_words = Counter(halves for paragraph in paragraphs for pair in pairwise(paragraph) if (halves := _halves(*pair)))
    closed = _closed_words(blocks, broken_words) if broken_words else frozenset()
    return "\n".join(_joined(paragraph, closed) for paragraph in paragraphs)


def _blocks(text: str) -> Iterator[list[str]]:
    """Runs of lines without a blank one between them, white space at their ends removed."""
    block: list[str] = []
    for line in chain(text.split("\n"), [""]):
        if line := line.rstrip():
            block.append(line)
        elif block:
            yield block
            block = []


def _paragraph_lines(block: list[str], width: int) -> Iterator[list[str]]:
    """The lines of a block by paragraph: all together in prose, one by one in verse and tables."""
    forced = [len(line) + 1 + _first_word_length(following) > width - SLACK for line, following in pairwise(block)]
    verse = not all(forced) and all(_begins_with_capital(line) for line in block)
    prose = 2 * sum(forced) > len(forced) and not verse
    paragraph = block[:1]
    for (line, following), full in zip(pairwise(block), forced, strict=True):
        if prose and (_indent(following) <= _indent(line) or (full and not _SENTENCE_END.search(line[-3:]))):
            paragraph.append(following)
        else:
            yield paragraph
            paragraph = [following]
    yield paragraph


def _first_word_length(line: str) -> int:
    found = _FIRST_WORD.match(line)
    return len(found[1]) if found else 1


def _begins_with_capital(line: str) -> bool:
    return next((character.isupper() for character in line if character.isalpha()), False)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _halves(line: str, following: str) -> tuple[str, str] | None:
    """The two parts, in small letters, of a word that a hyphen and a line break cut; None where there is none."""
    if not line.endswith("-"):
        return None
    left, right = _LEFT_HALF.search(line[-WIDEST:]), _RIGHT_HALF.match(following)
    return (left[0].casefold(), right[1].casefold()) if left and right and right[1][0].islower() else None


def _closed_words(blocks: Iterable[list[str]], broken_words: Counter[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Those of the broken words that lose their hyphen: see `unwrapped`."""
    seen: Counter[str] = Counter()
    for block in blocks:
        seen.update(_WORD.findall("\n".join(block).casefold()))
    for (left, right), count in broken_words.items():  # the halves themselves are no evidence
        seen[left] -= count
        seen[right] -= count
    evidence = {(left, right): seen[left + right] - seen[f"{left}-{right}"] for left, right in broken_words}
    usual = sum((balance > 0) - (balance < 0) for balance in evidence.values())

    def goes(left: str, right: str) -> bool:
        balance = evidence[left, right] or usual
        return balance > 0 if balance else min(seen[left], seen[right]) <= 0

    return frozenset(halves for halves in broken_words if goes(*halves))


def _joined(paragraph: list[str], closed: frozenset[tuple[str, str]]) -> str:
    parts = [paragraph[0].strip()]
    for line, following in pairwise(paragraph):
        if line.endswith("\u00ad") or _halves(line, following) in closed:
            parts[-1] = parts[-1][:-1]
        elif not (_DASH_BEFORE.search(line[-3:]) or _DASH_AFTER.match(following)):
            parts.append(" ")
        parts.append(following.strip())
    return "".join(parts)

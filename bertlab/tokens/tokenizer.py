"""Text to token ids: train a vocabulary, load one, encode. Text that spells "[SEP]" or "[MASK]" stays text.

Costs: training 30k pieces from 50 MB takes about half a minute; encoding runs at 2-4 MB/s on two cores, in Rust threads.
Knows nothing of documents, batches or models. Imports `tokenizers` and numpy, and no `transformers`: whatever class a stranger's
tokenizer_config.json asks for, none is looked up.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

from bertlab.disk import read_object
from bertlab.errors import ConfigError, CorruptError, DataError
from bertlab.hub import REMOTE, downloaded
from bertlab.tokens.rules import LARGEST_FILE, LARGEST_VOCABULARY, read_rules

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
Kind = Literal["wordpiece", "bpe", "unigram"]

_WORD = "x"  # what stands in for a word: one letter, which no contraction begins with

# An Encoding costs about 250 bytes a character while it lives, so a call is handed this many characters at most: 64 MB.
CHARACTERS_PER_CALL = 262_144


class Tokenizer:
    """A `tokenizers.Tokenizer` with BERT's five special tokens, whose encoding never yields one of them.

    Attributes: vocab_size; pad_id, unk_id, cls_id, sep_id, mask_id; special_ids, a sorted int64 array of every id that text must
    never become and masking must never draw, and special, the same as (vocab_size,) bool; sha256 of the serialised vocabulary and
    rules, vocabulary_sha256 of the entries and their ids alone (what a model's embeddings must agree with); lowercase.
    """

    def __init__(self, backend: tokenizers.Tokenizer, origin: str) -> None:
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True  # not stored in tokenizer.json: set after every load
        self._backend = backend
        self._origin = origin
        vocabulary = sorted(backend.get_vocab(with_added_tokens=True).items(), key=lambda entry: (entry[1], entry[0]))
        self.vocab_size: int = vocabulary[-1][1] + 1 if vocabulary else 0  # not their number: some published ones leave ids out
        if self.vocab_size > LARGEST_VOCABULARY:
            raise CorruptError(f"{origin}: a vocabulary with the id {self.vocab_size - 1:,}: ids are numbered from 0")
        ids = {token: id for token in SPECIAL_TOKENS if (id := backend.token_to_id(token)) is not None}
        absent = [token for token in SPECIAL_TOKENS if token not in ids]
        if absent:
            raise ConfigError(f"{origin}: the vocabulary has no {', '.join(absent)}: BERT needs {' '.join(SPECIAL_TOKENS)}")
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (ids[token] for token in SPECIAL_TOKENS)
        special = {id for id, token in backend.get_added_tokens_decoder().items() if token.special} | set(ids.values())
        self.special_ids = np.array(sorted(special), dtype=np.int64)
        self.special = np.zeros(self.vocab_size, dtype=bool)
        self.special[self.special_ids] = True
        self._reserved = self.special.copy()
        self._reserved[self.unk_id] = False
        self._text = backend.to_str()
        self.sha256 = hashlib.sha256(self._text.encode()).hexdigest()
        self.vocabulary_sha256 = hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()
        rules = json.loads(self._text)
        # of words: as byte-level BPE and Metaspace do, where WordPiece marks what continues one
        self._marks_beginnings = rules["model"]["type"] != "WordPiece"
        normalizer = rules.get("normalizer") or {}
        self.lowercase = bool(normalizer.get("lowercase", False) or '"Lowercase"' in json.dumps(normalizer))

    @property
    def id_dtype(self) -> np.dtype:
        """uint16 when every id fits, else int32: what the corpus stores."""
        return np.dtype(np.uint16 if self.vocab_size <= 2**16 else np.int32)

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Token ids of `texts` end to end and their offsets: ids (T,) int32; text n is ids[offsets[n]:offsets[n+1]]. No special tokens."""
        parts: list[np.ndarray] = []
        lengths = np.zeros(len(texts) + 1, dtype=np.int64)
        done = 0
        for call in _calls(texts):
            for encoding in self._encoded(call):
                parts.append(np.array(encoding.ids, dtype=np.int32))
                done += 1
                lengths[done] = len(parts[-1])
        ids = np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)
        ids[self._reserved[ids]] = self.unk_id  # a foreign vocabulary may reach "[SEP]" by its own merges
        return ids, np.cumsum(lengths)

    def encode_with_spans(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `encode`, and the characters [start, end) of its text that each token stands for, no white space at their ends: (T, 2)."""
        ids, offsets = self.encode(texts)
        spans = np.zeros((len(ids), 2), dtype=np.int64)
        done = 0
        for call in _calls(texts):
            for text, encoding in zip(call, self._encoded(call, with_spans=True), strict=True):
                if found := encoding.offsets:
                    spans[done : done + len(found)] = _trimmed(np.array(found), text)
                done += len(found)
        return ids, offsets, spans

    def _encoded(self, texts: list[str], with_spans: bool = False) -> list[Any]:
        encode = self._backend.encode_batch if with_spans else self._backend.encode_batch_fast
        try:
            return encode(texts, add_special_tokens=False)
        except BaseException as error:  # the library's panics are no Exception, and its errors are bare ones
            if isinstance(error, Exception | KeyboardInterrupt | SystemExit) and type(error) is not Exception:
                raise
            raise CorruptError(f"{self._origin}: the tokenizer fails on a text ({' '.join(str(error).split())[:200]})") from None

    def encode_around_mask(self, text: str) -> np.ndarray:
        """Ids of a text in which "[MASK]" means the mask token: for filling gaps that a user marks, never for a corpus. Shape (T,)."""
        mask = np.array([self.mask_id], dtype=np.int32)
        return np.concatenate([ids for part in self.encode_parts(text.split(MASK)) for ids in (part, mask)][:-1])

    def encode_parts(self, parts: Sequence[str]) -> list[np.ndarray]:
        """Ids of the parts of one text, which a word would join: those that each has by itself, but where the vocabulary marks how words
        begin those that they have in the whole, where a gap is a word's place. Of "the [MASK]." byte-level BPE has "Ġthe" and ".", and of
        "the " and "." by themselves "Ġthe", "Ġ", "Ġ" and ".".
        """
        if not self._marks_beginnings:
            return self._each(parts)
        gaps = np.cumsum([len(part) + 1 for part in parts[:-1]]) - 1  # where _WORD stands
        whole = _WORD.join(parts)
        beside = {whole[place] for gap in gaps.tolist() for place in (gap - 1, gap + 1) if 0 <= place < len(whole)}
        ids, _, spans = self.encode_with_spans([whole])
        begins, ends = spans.T
        of_word = np.isin(begins, gaps) & (ends <= begins + 1)  # its letter, and the mark of a word's beginning where that is alone
        part_of = np.searchsorted(gaps, begins, side="right")
        reaches = (np.searchsorted(gaps, ends, side="left") != part_of) | np.isin(begins, gaps)  # into a gap, or out of one
        if any(map(str.isalnum, beside)) or (reaches & ~of_word).any():
            return self._each(parts)
        return [ids[~of_word & (part_of == number)] for number in range(len(parts))]

    def _each(self, parts: Sequence[str]) -> list[np.ndarray]:
        ids, offsets = self.encode(list(parts))
        return [ids[start:end] for start, end in zip(offsets[:-1], offsets[1:], strict=True)]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids, special tokens shown as they are written."""
        return self._backend.decode([int(id) for id in ids], skip_special_tokens=False)

    def token(self, id: int) -> str:
        """The vocabulary entry of one id."""
        return self._backend.id_to_token(int(id)) or f"[{id}?]"

    def continues_word(self) -> np.ndarray:
        """For whole-word masking: True where a vocabulary entry continues the word before it. Shape (vocab_size,)."""
        entries = [self.token(id) for id in range(self.vocab_size)]
        if self._marks_beginnings:
            continues = np.array([entry[:1] not in ("Ġ", "▁") for entry in entries])
        else:
            continues = np.array([entry.startswith("##") for entry in entries])
        continues[self.special_ids] = False
        return continues

    def save(self, folder: Path, max_length: int) -> None:
        """Write tokenizer.json and tokenizer_config.json, which `transformers.AutoTokenizer` opens as they are."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(self._text, encoding="utf-8")
        settings: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": max_length,
            "do_lower_case": self.lowercase,
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
            "clean_up_tokenization_spaces": False,
        } | {f"{token[1:-1].lower()}_token": token for token in SPECIAL_TOKENS}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def train(texts: Iterable[str], *, kind: Kind, vocab_size: int, lowercase: bool, min_frequency: int = 2) -> Tokenizer:
    """Train a vocabulary of at most `vocab_size` pieces, BERT's five special tokens first (ids 0-4). Same texts, same bytes.

    WordPiece with BERT's normaliser (Devlin et al. 2018); byte-pair encoding on bytes (Radford et al. 2019); Unigram
    (Kudo 2018). `texts` is iterated twice: a list or the like, no generator. A text of more characters than `vocab_size`
    gives more pieces than asked for: WordPiece and Unigram keep every character. Raises DataError when there is no text.
    """
    assert iter(texts) is not texts, "a generator is spent after one pass"
    if not any(text.strip() for text in texts):
        raise DataError("no text to train a vocabulary on: every document was empty or dropped")
    if vocab_size <= len(SPECIAL_TOKENS) + 1:
        raise ConfigError(f"vocab_size={vocab_size} leaves no room beside the {len(SPECIAL_TOKENS)} special tokens: try 8192 or 30522")
    special = [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    shared: dict[str, Any] = {"vocab_size": vocab_size, "special_tokens": special, "show_progress": False}
    backend: tokenizers.Tokenizer
    trainer: Any
    if kind == "wordpiece":
        backend = tokenizers.Tokenizer(models.WordPiece(unk_token=UNK, max_input_chars_per_word=100))
        backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        # the trainer numbers the continuing letters as its hash map happens to yield them, and ties between merges follow the
        # numbers: given as special tokens they have fixed ones, and every letter can be spelt anywhere in a word
        letters = [f"##{letter}" for letter in _continuing_letters(texts, backend)]
        trainer = trainers.WordPieceTrainer(min_frequency=min_frequency, **shared | {"special_tokens": [*special, *letters]})
    elif kind == "bpe":
        backend = tokenizers.Tokenizer(models.BPE(unk_token=UNK))
        backend.normalizer = normalizers.Sequence([normalizers.NFC()] + [normalizers.Lowercase()] * lowercase)
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(min_frequency=min_frequency, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **shared)
    else:
        backend = tokenizers.Tokenizer(models.Unigram())
        backend.normalizer = normalizers.Sequence([normalizers.NFKC()] + [normalizers.Lowercase()] * lowercase)
        # brackets stand alone, or the lattice could read "[SEP]" as the one piece that it is in the vocabulary
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation("isolated")])
        backend.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(unk_token=UNK, **shared)
    backend.train_from_iterator(texts, trainer)
    if backend.get_vocab_size() <= len(SPECIAL_TOKENS):
        raise DataError("no text to train a vocabulary on: every document was empty or dropped")
    backend = _settled(backend, special)
    backend.encode_special_tokens = True
    return Tokenizer(_framed(backend), "the trained vocabulary")


def _framed(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """With BERT's frame of a text and of a pair, which only other readers of the folder use."""
    ids = [(token, id) for token in (CLS, SEP) if (id := backend.token_to_id(token)) is not None]
    if len(ids) == 2:  # else it is refused, by name, in a moment
        backend.post_processor = processors.TemplateProcessing(
            single=f"{CLS} $A {SEP}", pair=f"{CLS} $A {SEP} $B:1 {SEP}:1", special_tokens=ids
        )
    return backend


def _continuing_letters(texts: Iterable[str], backend: tokenizers.Tokenizer) -> list[str]:
    """Every character of the texts, as normalised, that can stand after another in a word; sorted."""
    characters: set[str] = set()
    for text in texts:
        characters.update(text)
    letters: set[str] = set()
    for character in characters:
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str("a" + character)):
            letters.update(word[1:])
    return sorted(letters)


def _settled(trained: tokenizers.Tokenizer, special: list[AddedToken]) -> tokenizers.Tokenizer:
    """The trained tokenizer without what the trainers leave to chance: only BERT's tokens special, scores and their ties in one order."""
    rules = json.loads(trained.to_str())
    model = rules["model"]
    rules["added_tokens"] = []
    if model["type"] == "Unigram":
        model["vocab"] = [[token, 0.0] for token in SPECIAL_TOKENS] + _settled_scores(model["vocab"][len(SPECIAL_TOKENS) :])
    settled = tokenizers.Tokenizer.from_str(json.dumps(rules))
    settled.add_special_tokens(special)
    return settled


def _settled_scores(vocabulary: list[list[Any]]) -> list[list[Any]]:
    """Unigram pieces [piece, log probability], best first, ties by content.

    The trainer sums in the order of a hash map, which moves the last of 16 digits: 4 are kept. Letters that it must keep but found
    no use for it gives the lowest score, then 0.0001 more to each, again in the order of a hash map: here all get the lowest.
    """
    lowest = min(score for _, score in vocabulary)
    steps = {piece: (score - lowest) / 1e-4 for piece, score in vocabulary if len(piece) == 1}
    unused = [piece for piece, step in steps.items() if step < len(steps) and abs(step - round(step)) < 1e-6]
    settled = {piece: round(score, 4) for piece, score in vocabulary} | {piece: round(lowest, 4) for piece in unused}
    return [[piece, score] for piece, score in sorted(settled.items(), key=lambda entry: (-entry[1], entry[0]))]


def load(source: str) -> Tokenizer:
    """Open a tokenizer: a folder (ours or any published BERT's), a tokenizer.json, or `hf:name` from the hub.

    Raises ConfigError when there is none, CorruptError when it cannot be parsed or its rules may not be followed (rules.py).
    """
    patterns = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
    path = Path(downloaded(source, patterns) if source.startswith(REMOTE) else source)
    if path.is_dir() and (path / "tokenizer.json").is_file():
        path = path / "tokenizer.json"
    if path.is_file() and path.suffix == ".json":
        return Tokenizer(_parsed(read_rules(path), path), source)
    if not (path / "vocab.txt").is_file():
        raise ConfigError(f"{source}: no tokenizer there (tokenizer.json or vocab.txt); a name on the hub is written hf:NAME")
    return Tokenizer(_from_vocabulary(path), source)


def _parsed(rules: str, path: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(rules)
    except BaseException as error:  # the Rust library raises bare Exception for every parse error, and panics are not even that
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise CorruptError(f"{path}: not a tokenizer.json ({(str(error).splitlines() or [''])[0][:200]})") from None


def _from_vocabulary(folder: Path) -> tokenizers.Tokenizer:
    """The tokenizer of a published BERT that has a vocab.txt alone: an entry a line, and BERT's rules (Devlin et al. 2018).

    tokenizer_config.json may say do_lower_case, strip_accents and tokenize_chinese_chars, and is asked for nothing else.
    """
    path, config = folder / "vocab.txt", folder / "tokenizer_config.json"
    if path.stat().st_size > LARGEST_FILE:
        raise CorruptError(f"{path}: over {LARGEST_FILE >> 20} MB, which no vocabulary has")
    try:
        entries = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raise CorruptError(f"{path}: not UTF-8 text: it should hold an entry a line") from None
    said = read_object(config) if config.is_file() else {}
    settings: dict[str, Any] = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
    settings |= {name: said[name] for name in settings if said.get(name) in (True, False, None) and name in said}
    backend = tokenizers.Tokenizer(models.WordPiece({entry: id for id, entry in enumerate(entries)}, unk_token=UNK))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=bool(settings["do_lower_case"]),
        strip_accents=settings["strip_accents"],
        handle_chinese_chars=bool(settings["tokenize_chinese_chars"]),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS if token in entries])
    return _framed(backend)


def _trimmed(spans: np.ndarray, text: str) -> np.ndarray:
    """Spans (T, 2) of a text with the white space at their ends left out: a byte-level token has the space before its word."""
    white = np.fromiter(map(str.isspace, text), dtype=bool, count=len(text))
    while (leading := (spans[:, 0] < spans[:, 1]) & white[np.minimum(spans[:, 0], len(text) - 1)]).any():
        spans[:, 0] += leading
    while (trailing := (spans[:, 0] < spans[:, 1]) & white[spans[:, 1] - 1]).any():
        spans[:, 1] -= trailing
    return spans


def _calls(texts: Sequence[str]) -> Iterator[list[str]]:
    """`texts` in runs of at most CHARACTERS_PER_CALL characters (a longer text alone)."""
    run: list[str] = []
    characters = 0
    for text in texts:
        if run and characters + len(text) > CHARACTERS_PER_CALL:
            yield run
            run, characters = [], 0
        run.append(text)
        characters += len(text)
    if run:
        yield run

"""A model folder of a stranger's (S4, S5): whatever header and sizes say, it is refused by name before any memory is taken for it."""

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from bertlab.errors import BertlabError, ConfigError, CorruptError
from bertlab.model.encoder import Bert, EncoderConfig, parameter_shapes
from bertlab.model.facts import load_config
from bertlab.model.folder import load_model, save_model
from bertlab.model.heads import BertForPreTraining, BertForSequenceClassification
from bertlab.model.weights import read_header, read_tensors
from bertlab.tokens import tokenizer as tokenizers

MOST = 50 << 20  # bytes that a refusal may cost
WORD = "bert.embeddings.word_embeddings.weight"
Memory = Callable[[Callable[[], object]], int]


def entry(dtype: Any, shape: Any, begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def write(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    """A file of any header: JSON of it, or text as it is."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def refused(path: Path, memory: Memory, words: str) -> None:
    """A hostile file is one line that holds `words`, and costs nothing."""

    def call() -> None:
        with pytest.raises(CorruptError) as caught:
            read_tensors(path)
        message = str(caught.value)
        assert "\n" not in message and str(path) in message and words in message and len(message) < 1500, message[:2000]

    assert memory(call) < MOST


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        ({"a": entry("F32", [10**12], 0, 4)}, b"1234", "tensor 'a' has shape [1000000000000]"),
        ({"a": entry("F32", [10**12], 0, 4 * 10**12)}, b"1234", "4,000,000,000,000 bytes of tensors in its header, 4 in the file"),
        ({"a": entry("F32", [2**32, 2**32], 0, 0)}, b"", "tensor 'a' has shape [4294967296, 4294967296]"),  # 0 in 64 bits
        ({"a": entry("F32", [2**62, 4], 0, 0)}, b"", "tensor 'a'"),
        ({"a": entry("F32", [10**3000, 10**3000], 0, 4)}, b"1234", "tensor 'a'"),
        ({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 0, 4)}, b"1234", "tensor 'b' begins at byte 0"),
        ({"a": entry("F32", [2], 0, 8), "b": entry("F32", [1], 4, 8)}, b"12345678", "tensor 'b' begins at byte 4"),
        ({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 8, 12)}, b"x" * 12, "tensor 'b' begins at byte 8"),
        ({"a": entry("F32", [1], 0, 4)}, b"x" * 5, "4 bytes of tensors in its header, 5 in the file"),
        ({"a": entry("F32", [1], 0, 4)}, b"", "0 in the file"),
        ({"a": entry("F32", [1], 4, 0)}, b"1234", "tensor 'a'"),
        ({"a": entry("F32", [-1], 0, -4)}, b"1234", "tensor 'a'"),
        ({"a": entry("F32", [1.0], 0, 4)}, b"1234", "tensor 'a'"),
        ({"a": entry("F32", [True], 0, 4)}, b"1234", "tensor 'a'"),
        ({"a": entry("F32", "1", 0, 4)}, b"1234", "tensor 'a'"),
        ({"a": entry("F32", [1] * 9, 0, 4)}, b"1234", "tensor 'a'"),
        ({"a": entry("F32", 7, 0, 4)}, b"1234", "tensor 'a' has no type, shape and place"),
        ({"a": {"dtype": "F32", "shape": [1]}}, b"1234", "tensor 'a' has no type, shape and place"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}, b"1234", "tensor 'a' has no type, shape and place"),
        ({"a": None}, b"", "tensor 'a' has no type, shape and place"),
        ({"a": entry("O", [1], 0, 8)}, b"12345678", "tensor 'a' is of type 'O'"),
        ({"a": entry(["F32"], [1], 0, 4)}, b"1234", "tensor 'a' is of type"),
        ({"\x1b[2J\n" + "n" * 10**5: entry("O", [1], 0, 8)}, b"12345678", "\\x1b[2J\\n"),
        ('{"a":%s,"a":%s}' % ((json.dumps(entry("F32", [1], 0, 4)),) * 2), b"1234", "twice"),
        ('{"a":{"dtype":"F32","shape":[1],"shape":[1000],"data_offsets":[0,4]}}', b"1234", "twice"),
        ("[" * 400_000, b"", "its header"),
        ("{" + '"a":{' * 5000, b"", "its header"),
        ("[" + "[]," * 300_000 + "[]]", b"", "no JSON object"),
        ("[1, 2]", b"", "no JSON object"),
        ("null" + " " * 8, b"", "no JSON object"),
        ('{"a": ' + "9" * 10**5 + "}", b"", "its header"),
        ("\ud800{}".encode("utf-8", "surrogatepass").decode("latin-1"), b"", "its header"),
        ("not json", b"", "its header"),
    ],
)  # fmt: skip
def test_a_header_that_is_not_true_is_refused_by_the_tensors_name(
    header: Any, data: bytes, words: str, tmp_path: Path, most_memory: Memory
) -> None:
    refused(write(tmp_path / "model.safetensors", header, data), most_memory, words)


@pytest.mark.parametrize("length", [0, 1, 2**20 + 1, 2**31, 2**63, 2**64 - 1])
def test_a_header_of_an_absurd_length_is_not_read(length: int, tmp_path: Path, most_memory: Memory) -> None:
    path = write(tmp_path / "model.safetensors", "{}", length=length)
    refused(path, most_memory, f"with a header of {length:,}")
    with path.open("r+b") as stream:  # a hole of a gigabyte costs the attacker nothing
        stream.truncate(2**30)
    refused(path, most_memory, "its header" if length == 2**31 else f"with a header of {length:,}") if length != 2**31 else None
    path.write_bytes(b"\x02\0\0")
    refused(path, most_memory, "3 bytes with a header of 0")


def test_a_hole_of_a_gigabyte_behind_a_short_header_is_refused(tmp_path: Path, most_memory: Memory) -> None:
    path = write(tmp_path / "model.safetensors", {"a": entry("F32", [1], 0, 4)}, b"1234")
    with path.open("r+b") as stream:
        stream.truncate(2**30)
    refused(path, most_memory, "4 bytes of tensors in its header")


def test_every_flipped_bit_of_a_header_is_noticed_or_read_alike_by_the_reference(tmp_path: Path) -> None:
    tensors = {"one": torch.arange(6.0).reshape(2, 3), "two": torch.arange(4, dtype=torch.int64)}
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(tensors, path, {"format": "pt"})
    whole = path.read_bytes()
    length = 8 + struct.unpack("<Q", whole[:8])[0]
    noticed = 0
    for place in range(length):
        for bit in range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            try:
                ours = read_tensors(path)
            except CorruptError:
                noticed += 1
                continue
            theirs = safetensors.torch.load_file(path)  # another name or type of the same size: what the header says now
            assert {name: (value.dtype, value.shape) for name, value in ours.items()} == {
                name: (value.dtype, value.shape) for name, value in theirs.items()
            }
    assert noticed > length * 8 * 0.8


def test_what_safetensors_writes_is_read_as_safetensors_reads_it(tmp_path: Path) -> None:
    types = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool, torch.uint8)
    tensors = {str(dtype): torch.ones(3, 2, dtype=dtype) for dtype in types} | {"none": torch.zeros(0, 4), "scalar": torch.tensor(7.0)}
    safetensors.torch.save_file(tensors, tmp_path / "a.safetensors", {"format": "pt"})
    read = read_tensors(tmp_path / "a.safetensors")
    assert read.keys() == tensors.keys() and all(torch.equal(read[name], value) for name, value in tensors.items())
    assert {name: stored.shape for name, stored in read_header(tmp_path / "a.safetensors").items()} == {
        name: tuple(value.shape) for name, value in tensors.items()
    }
    assert read_tensors(tmp_path / "a.safetensors", ["scalar"]).keys() == {"scalar"}


# --- a whole folder -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = tokenizers.train(["the old river runs to the sea"] * 4, kind="wordpiece", vocab_size=60, lowercase=True)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 16}
    model = BertForPreTraining(EncoderConfig(vocab_size=tokenizer.vocab_size, **sizes))
    save_model(tmp_path / "model", model, tokenizer, facts={}, card="")
    for name in ("manifest.json", "bertlab.json"):
        (tmp_path / "model" / name).unlink()  # as a stranger's folder is: bound by nothing
    return tmp_path / "model"


def spoil(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    change(tensors)
    safetensors.torch.save_file(tensors, folder / "model.safetensors")


def configure(folder: Path, **changes: Any) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))


def refusal(folder: Path, memory: Memory, kind: Any = BertForPreTraining) -> str:
    messages: list[str] = []

    def call() -> None:
        with pytest.raises(BertlabError) as caught:
            load_model(str(folder), kind)
        messages.append(str(caught.value))

    assert memory(call) < MOST
    assert "\n" not in messages[0] and str(folder) in messages[0]
    return messages[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_size": 2**15, "num_attention_heads": 1, "num_hidden_layers": 500}, "has shape"),  # 6 trillion parameters
        ({"vocab_size": 2**22, "hidden_size": 2**15}, "has shape"),  # half a terabyte
        ({"intermediate_size": 2**18}, "has shape (32"),
        ({"max_position_embeddings": 2**20}, "position_embeddings.weight has shape (16, 16), the model wants (1048576, 16)"),
        ({"type_vocab_size": 1024}, "token_type_embeddings"),
        ({"num_hidden_layers": 1000}, "encoder parameters are missing, the first bert.encoder.layer.2."),
        ({"num_hidden_layers": 1}, "16 encoder parameters that config.json has no place for, the first 'bert.encoder.layer.1."),
        ({"num_hidden_layers": 2**40}, "num_hidden_layers=1099511627776 is not between 1 and 1024"),
        ({"vocab_size": 10**400}, "vocab_size"),
        ({"hidden_dropout_prob": 1e999}, "hidden_dropout_prob"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps"),
        ({"vocab_size": [1]}, "vocab_size"),
    ],
)
def test_sizes_are_held_against_the_file_before_a_model_is_built(
    folder: Path, changes: dict[str, Any], words: str, most_memory: Memory
) -> None:
    configure(folder, **changes)
    assert words in refusal(folder, most_memory)


def test_more_classes_than_the_file_has_or_anybody_needs_are_refused(folder: Path, most_memory: Memory) -> None:
    spoil(folder, lambda tensors: tensors.update({"classifier.weight": torch.zeros(2, 16), "classifier.bias": torch.zeros(2)}))
    configure(folder, id2label=dict.fromkeys(map(str, range(60_000)), "x"))
    assert "classifier.weight has shape (2, 16), the model wants (60000, 16)" in refusal(folder, most_memory, BertForSequenceClassification)
    configure(folder, id2label=dict.fromkeys(map(str, range(65_537)), "x"))
    assert "65,537 classes in id2label" in refusal(folder, most_memory, BertForSequenceClassification)


def test_the_shapes_that_are_looked_for_are_those_of_a_model() -> None:
    config = EncoderConfig(
        vocab_size=31, hidden_size=12, num_hidden_layers=3, num_attention_heads=2, intermediate_size=20, type_vocab_size=3
    )
    assert parameter_shapes(config) == {name: tuple(value.shape) for name, value in Bert(config).state_dict().items()}


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool, torch.uint8])
def test_weights_that_are_no_floating_point_numbers_are_refused_by_name(folder: Path, dtype: torch.dtype, most_memory: Memory) -> None:
    spoil(folder, lambda tensors: tensors.update({WORD: tensors[WORD].to(dtype)}))
    assert f"{WORD} is of type" in refusal(folder, most_memory)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_another_precision_are_read_as_the_numbers_that_they_are(folder: Path, dtype: torch.dtype) -> None:
    wanted = safetensors.torch.load_file(folder / "model.safetensors")
    spoil(folder, lambda tensors: tensors.update({name: value.to(dtype) for name, value in tensors.items()}))
    model, absent = load_model(str(folder), BertForPreTraining)
    assert absent == []
    assert all(value.dtype == torch.float32 for value in model.state_dict().values())
    assert torch.equal(model.state_dict()[WORD], wanted[WORD].to(dtype).float())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_anywhere_are_refused_by_name(folder: Path, value: float, most_memory: Memory) -> None:
    name = "cls.predictions.transform.dense.bias"
    spoil(folder, lambda tensors: tensors[name][3:4].fill_(value))
    assert name in refusal(folder, most_memory)


def test_a_number_too_large_for_single_precision_is_infinity(folder: Path, most_memory: Memory) -> None:
    spoil(folder, lambda tensors: tensors.update({WORD: tensors[WORD].double().index_fill(0, torch.tensor([3]), 1e300)}))
    assert f"{WORD} holds NaN or infinity" in refusal(folder, most_memory)


def test_tensors_that_nobody_asked_for_are_not_read(folder: Path, most_memory: Memory) -> None:
    spoil(folder, lambda tensors: tensors.update({"extra": torch.zeros(30 << 20)}))  # 120 MB
    assert most_memory(lambda: load_model(str(folder), BertForPreTraining)) < MOST


def test_only_the_keys_that_shape_an_encoder_leave_a_strangers_config(folder: Path, tmp_path: Path) -> None:
    hooks: dict[str, Any] = {
        "auto_map": {"AutoModel": "evil.Model"},
        "_attn_implementation_internal": "x/y",
        "quantization_config": {"quant_method": "evil"},
    }
    hooks |= {"_name_or_path": "evil", "attn_implementation": "x/y", "trust_remote_code": True, "torch_dtype": "os.system"}
    configure(folder, **hooks)
    model, _ = load_model(str(folder), BertForPreTraining)
    save_model(tmp_path / "again", model, tokenizers.load(str(folder)), facts={}, card="")
    for path in (tmp_path / "again").rglob("*.json"):
        assert "evil" not in path.read_text() and "x/y" not in path.read_text() and "auto_map" not in path.read_text()
    assert not load_config(str(tmp_path / "again")).keys() & hooks.keys()


@pytest.mark.parametrize("text", ["[" * 10**5, '{"a": ' + "9" * 10**5 + "}", "[1]", "\x80\x02", "NaN" * 9])
@pytest.mark.parametrize("file", ["config.json", "bertlab.json"])
def test_json_made_to_hurt_is_one_line(folder: Path, file: str, text: str, most_memory: Memory) -> None:
    from bertlab.model.facts import load_facts

    (folder / file).write_text(text, encoding="latin-1")

    def call() -> None:
        with pytest.raises((CorruptError, ConfigError)) as caught:
            load_config(str(folder)) if file == "config.json" else load_facts(str(folder))
        assert "\n" not in str(caught.value) and file in str(caught.value)

    assert most_memory(call) < MOST

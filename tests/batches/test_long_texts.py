"""Long texts: which end is kept, and windows whose logits are averaged, an example being a text whatever its windows."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from bertlab.batches.flat import LabelledBatch
from bertlab.batches.labelled import encode_examples
from bertlab.batches.long_texts import MOST_WINDOWS, encode_windows
from bertlab.model.encoder import EncoderConfig
from bertlab.model.heads import BertForSequenceClassification
from bertlab.tokens.tokenizer import Tokenizer, train
from bertlab.training.objectives import Classification, LabelSets, logits_of

WORDS = [f"w{number}" for number in range(40)]


@pytest.fixture(scope="module")
def tokenizer() -> Iterator[Tokenizer]:
    yield train([" ".join(WORDS)] * 3, kind="wordpiece", vocab_size=300, lowercase=True)


def words(tokenizer: Tokenizer, ids: np.ndarray) -> str:
    return " ".join(tokenizer.token(int(each)) for each in ids).replace(" ##", "")


@pytest.mark.parametrize(
    ("keep", "expected"),
    [("head", "w0 w1 w2 w3 w4 w5 w6 w7"), ("tail", "w32 w33 w34 w35 w36 w37 w38 w39"), ("head+tail", "w0 w1 w34 w35 w36 w37 w38 w39")],
)
def test_the_end_that_is_asked_for_is_kept(tokenizer: Tokenizer, keep: str, expected: str) -> None:
    pieces, bounds = tokenizer.encode(WORDS)
    assert (np.diff(bounds) == 1).all(), "a word is a piece here"
    short = " ".join(WORDS[:5])
    examples = encode_examples(tokenizer, [" ".join(WORDS), short, ""], max_length=10, keep=keep)  # type: ignore[arg-type]
    kept = [words(tokenizer, examples.batch(np.array([row])).input_ids.numpy()) for row in range(3)]
    assert kept == [f"[CLS] {expected} [SEP]", f"[CLS] {short} [SEP]", "[CLS] [SEP]"] and examples.num_truncated == 1
    pair = encode_examples(tokenizer, [" ".join(WORDS)], [short], max_length=16, keep=keep)  # type: ignore[arg-type]
    assert words(tokenizer, pair.ids).startswith(f"[CLS] {expected.split()[0]}") and words(tokenizer, pair.ids).endswith(f"{short} [SEP]")


def test_windows_cover_a_text_overlap_and_belong_to_their_text(tokenizer: Tokenizer) -> None:
    texts = [" ".join(WORDS[:3]), " ".join(WORDS[:20]), "", " ".join(WORDS)]
    examples = encode_windows(tokenizer, texts, [0, 1, 2, 1], max_length=10)
    assert len(examples) == 4 and examples.num_windowed == 2 and examples.num_truncated == 0
    batch = examples.batch(np.array([3, 0, 1]))
    assert batch.labels.tolist() == [1, 0, 1] and batch.rows.tolist() == [3, 0, 1]
    assert batch.texts.tolist() == [0] * 7 + [1] + [2] * 3  # 8 words a window, 6 further on
    starts = batch.cu_seqlens.tolist()
    shown = [words(tokenizer, batch.input_ids[a:b].numpy()) for a, b in zip(starts, starts[1:], strict=False)]
    assert shown[0] == f"[CLS] {' '.join(WORDS[:8])} [SEP]" and shown[1] == f"[CLS] {' '.join(WORDS[6:14])} [SEP]"
    assert shown[6] == f"[CLS] {' '.join(WORDS[36:])} [SEP]" and shown[7] == f"[CLS] {' '.join(WORDS[:3])} [SEP]"
    assert examples.lengths.tolist() == [5, 3 * (8 + 2), 2, sum(len(each.split()) for each in shown[:7])]


def test_a_text_without_end_has_so_many_windows_and_is_counted(tokenizer: Tokenizer) -> None:
    endless = " ".join(WORDS * 20)
    examples = encode_windows(tokenizer, [endless, "w1"], max_length=10)
    assert np.diff(examples.bounds).tolist() == [MOST_WINDOWS, 1] and (examples.num_truncated, examples.num_windowed) == (1, 1)
    assert encode_windows(tokenizer, [" ".join((WORDS * 20)[: 8 + 31 * 6])], max_length=10).num_truncated == 0


@pytest.fixture
def model(tokenizer: Tokenizer) -> BertForSequenceClassification:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 12}
    return BertForSequenceClassification(EncoderConfig(vocab_size=tokenizer.vocab_size, initializer_range=0.4, **sizes), 3).eval()


def test_a_texts_logits_are_the_mean_of_its_windows_and_losses_count_texts(
    tokenizer: Tokenizer, model: BertForSequenceClassification
) -> None:
    texts = [" ".join(WORDS), "w1 w2", " ".join(WORDS[5:25])]
    batch = encode_windows(tokenizer, texts, [2, 0, 1], max_length=10).batch(np.arange(3))
    logits = logits_of(model, batch)
    starts = batch.cu_seqlens.tolist()
    for text in range(3):
        alone = []
        for number in torch.nonzero(batch.texts == text)[:, 0].tolist():
            part = batch.input_ids[starts[number] : starts[number + 1]]
            zeros = torch.zeros_like(part)
            inputs = {"input_ids": part, "token_type_ids": zeros, "position_ids": torch.arange(len(part))}
            alone.append(model(**inputs, cu_seqlens=torch.tensor([0, len(part)], dtype=torch.int32), max_seqlen=len(part))[0])
        torch.testing.assert_close(logits[text], torch.stack(alone).mean(0), atol=1e-5, rtol=0)
    objective = Classification()
    assert objective.counts(batch) == [3]
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([2, 0, 1]), reduction="sum")
    torch.testing.assert_close(objective.losses(model, batch)[0], expected)
    sets = encode_windows(tokenizer, texts, np.eye(3, dtype=np.float32), max_length=10).batch(np.arange(3))
    assert LabelSets().counts(sets) == [9] and LabelSets().losses(model, sets).isfinite().all()


def test_short_texts_in_windows_are_the_same_batch_and_logits_as_without(
    tokenizer: Tokenizer, model: BertForSequenceClassification
) -> None:
    texts = ["w1 w2", "w3", "w4 w5 w6"]
    plain: LabelledBatch = encode_examples(tokenizer, texts, labels=[0, 1, 2], max_length=10).batch(np.arange(3))
    windowed = encode_windows(tokenizer, texts, [0, 1, 2], max_length=10).batch(np.arange(3))
    for name, value in plain.encoder_inputs().items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(getattr(windowed, name)))
    torch.testing.assert_close(logits_of(model, plain), logits_of(model, windowed))

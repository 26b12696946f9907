"""Sizes to choose from: layers x width of google-research/bert's published family."""

from bertlab.model.encoder import EncoderConfig

PRESETS = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512), "base": (12, 768), "large": (24, 1024)}


def preset_config(
    preset: str, *, vocab_size: int, positions: int, pad_token_id: int, hidden_dropout_prob: float, attention_probs_dropout_prob: float
) -> EncoderConfig:
    """A preset's configuration for a vocabulary: heads of 64, feed-forward 4 x width, as all of that family have."""
    layers, width = PRESETS[preset]
    return EncoderConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        max_position_embeddings=positions,
        pad_token_id=pad_token_id,
        hidden_dropout_prob=hidden_dropout_prob,
        attention_probs_dropout_prob=attention_probs_dropout_prob,
    )

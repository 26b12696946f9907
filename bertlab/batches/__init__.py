"""Flat batches: sequences end to end with no padding between them, each a pure function of (corpus, seed, step)."""

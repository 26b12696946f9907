"""The encoder and its heads, over flat batches; parameter names are those of transformers' BERT."""

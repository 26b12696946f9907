"""What a model can be fine-tuned for: one file a kind of task, one contract, one way to train a seed."""

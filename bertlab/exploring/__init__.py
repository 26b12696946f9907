"""A model opened up for a person: what it makes of a text, what weighed on its answer, how a word's vectors part by sense."""

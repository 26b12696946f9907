"""Text in: files, documents, sentences, what makes two documents the same, labelled examples. Imports no torch."""

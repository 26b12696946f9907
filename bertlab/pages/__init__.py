"""What a person looks at: model cards and the closing screen of quickstart."""

"""Texts to vectors at any size: the encoder at work, parts on the disk that outlive a cut-off, what is known of poolings."""

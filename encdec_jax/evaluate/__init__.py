"""Evaluation: the fair loss, in bits per byte of the same held-out suffixes."""

"""Evaluation: the fair loss, in bits per byte of the same held-out suffixes."""

LOSS = "suffix_bits_per_byte"  # the fair loss, in summaries and in the results table

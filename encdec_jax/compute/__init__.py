"""Compute: the ledger of parameters and FLOPs, and matching by it. Knows nothing of training loops."""

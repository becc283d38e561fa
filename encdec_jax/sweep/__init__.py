"""Sweeps: algebra, identity, claims, states on disk, workers, the results table. Imports no jax."""

"""Studies of our tables: IsoFLOP curves, comparisons, crossovers, allocation, predictions. Imports no jax."""

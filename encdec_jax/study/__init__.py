"""Scaling: IsoFLOP fits, power laws, bootstrap intervals, predictions. Imports no jax."""

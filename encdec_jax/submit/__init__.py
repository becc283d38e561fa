"""Clusters: allocations that follow meshes, Slurm and Kubernetes, what is queued, the doctor. Imports no jax."""

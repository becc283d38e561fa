"""Inference: caches of keys and values, prefill and decoding. Knows nothing of meshes, training or data."""

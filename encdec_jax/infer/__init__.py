"""Inference: caches of keys and values, prefill and decoding, the completion of a text. Knows nothing of meshes."""

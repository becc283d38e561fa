"""The model: architectures as choices, streams, layers, stacks. Knows nothing of meshes, losses or data."""

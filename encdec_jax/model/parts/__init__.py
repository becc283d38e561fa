"""What blocks are made of: one file a kind of sublayer, and norms, positions and tables. No jax at module level."""

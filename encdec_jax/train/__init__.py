"""Training: loss, optimizer, sharding, the pure step, the host loop, checkpoints, metrics."""

"""The data: corpus, tasks, token cache, objectives, and batches as a pure function of (seed, step)."""

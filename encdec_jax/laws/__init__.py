"""Laws of any table: forms, fits, case resampling, intervals. Knows nothing of sweeps, and imports no jax."""

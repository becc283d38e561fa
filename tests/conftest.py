"""One setting for every test: the CPU as 8 devices, and compilations that are quick and kept between runs."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
# Tests compile much and compute little.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

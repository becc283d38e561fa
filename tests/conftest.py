"""One setting for every test: the CPU as 8 devices, and compilations that are quick and kept between runs."""

import os

import hypothesis
import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
# Tests compile much and compute little.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/encdec_jax/jit-tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
hypothesis.settings.register_profile("house", deadline=None)  # no test is one of the machine's speed
hypothesis.settings.load_profile("house")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """ENCDEC_RUNS, ENCDEC_CACHE and working directory of the test's own, which is a project; gives it."""
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setenv("ENCDEC_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("ENCDEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path

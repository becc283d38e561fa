"""What each worker of a machine gets: its own CPUs, its own GPUs or TPU chips, and the memory that it freed."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
from tiny import environment

from encdec_jax import cpus
from encdec_jax.errors import UserError


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with the device files that it is told of."""
    for name in ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cpus, "_DEV", tmp_path)

    def has(*files: str) -> None:
        for name in files:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()

    return has


def test_eight_workers_on_eight_gpus_get_one_each(machine):
    machine(*(f"nvidia{i}" for i in range(8)), "nvidiactl", "nvidia-uvm")
    found = cpus.own_devices(8)
    assert [env["CUDA_VISIBLE_DEVICES"] for env in found] == list("01234567")
    assert [env["CUDA_VISIBLE_DEVICES"] for env in cpus.own_devices(2)] == ["0,1,2,3", "4,5,6,7"]
    assert cpus.own_devices(1) == [{}]
    for jobs, each, most in ((9, 1, 8), (3, 4, 2)):
        with pytest.raises(UserError, match=f"jobs = {jobs} is not accepted: at most {most}: 8 devices"):
            cpus.own_devices(jobs, each)


def test_only_what_was_granted_is_shared(machine, monkeypatch):
    machine(*(f"nvidia{i}" for i in range(8)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    assert [env["CUDA_VISIBLE_DEVICES"] for env in cpus.own_devices(2)] == ["GPU-a", "GPU-b"]
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert cpus.own_devices(2) == [{}, {}]


def test_rocm_and_tpus_likewise(machine):
    machine("kfd", "dri/renderD128", "dri/renderD129")
    assert [env["ROCR_VISIBLE_DEVICES"] for env in cpus.own_devices(2)] == ["0", "1"]


def test_tpu_chips_likewise(machine):
    machine("vfio/0", "vfio/1", "vfio/2", "vfio/3", "vfio/vfio")
    first, second = cpus.own_devices(2)
    assert (first["TPU_VISIBLE_CHIPS"], second["TPU_VISIBLE_CHIPS"]) == ("0,1", "2,3")
    assert first["TPU_CHIPS_PER_PROCESS_BOUNDS"] == "1,2,1"


def test_a_machine_without_any_shares_none(machine):
    assert cpus.own_devices(3) == [{}, {}, {}]


BUFFERS = """
import ctypes, os, resource, threading
from encdec_jax import cpus

kept = cpus.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.memset.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
libc.free.argtypes = libc.malloc.argtypes = (ctypes.c_size_t,)
SIZE = 100 << 20  # more than a thread's arena holds


def step():
    buffer = libc.malloc(SIZE)
    libc.memset(buffer, 1, SIZE)
    libc.free(buffer)


def steps():
    step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    print(kept, not kept or faults < SIZE // resource.getpagesize() // 100)


thread = threading.Thread(target=steps)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own allocator")
@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "True True"),
        ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, "False True"),
        ({"MALLOC_TOP_PAD_": "131072"}, "False True"),
        ({"JAX_PLATFORMS": "cuda"}, "False True"),
    ],
)
def test_a_thread_is_given_again_what_it_freed(more, said):
    """Without faulting it in anew; unless the user tunes glibc, or a GPU is computed on."""
    env = {name: value for name, value in environment().items() if name != "GLIBC_TUNABLES"} | more
    done = subprocess.run([sys.executable, "-c", BUFFERS], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said

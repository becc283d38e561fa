from __future__ import annotations

import pytest

from encdec_jax.errors import UserError
from encdec_jax.train.job import PORTS, Job, job_of

SLURM = {
    "SLURM_JOB_ID": "5000",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NODELIST": "gpu[007-008,12],b1",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    "SLURM_NODEID": "1",
    "SLURM_LOCALID": "0",
    "SLURM_PROCID": "1",
    "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7",
}
POD = {"TPU_WORKER_HOSTNAMES": "h0,h1", "TPU_WORKER_ID": "1"}
SLICES = {"MEGASCALE_NUM_SLICES": "3", "MEGASCALE_SLICE_ID": "2", "MEGASCALE_COORDINATOR_ADDRESS": "c:80"}


def test_a_process_alone_is_no_job():
    assert job_of({}) is None
    assert job_of({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}) is None
    assert job_of({"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}) is None


def test_a_slurm_step_meets_at_its_first_node():
    """A process that is alone on its node takes all of its GPUs: jax by itself takes the first."""
    job = job_of(SLURM)
    host, _, port = job.address.partition(":")
    assert (host, job.processes, job.place, job.devices) == ("gpu007", 2, 1, None)
    assert int(port) in PORTS
    assert job_of({**SLURM, "SLURM_JOB_ID": "5001"}).address != job.address
    assert job_of({**SLURM, "SLURM_STEP_ID": "1"}).address != job.address
    for nodes, first in (("a1,b2", "a1"), ("one", "one"), ("r[1-2]-ib", "r1-ib"), ("n[09,11]", "n09")):
        assert job_of({**SLURM, "SLURM_STEP_NODELIST": nodes}).address.startswith(f"{first}:")
    assert job_of({**SLURM, "JAX_COORDINATOR_ADDRESS": "10.0.0.1:7"}).address == "10.0.0.1:7"


def test_tasks_of_a_node_divide_its_gpus():
    pair = {**SLURM, "SLURM_STEP_NUM_TASKS": "5", "SLURM_STEP_TASKS_PER_NODE": "1,2(x2)", "SLURM_LOCALID": "1"}
    assert job_of(pair).devices == (4, 5, 6, 7)
    assert job_of({**pair, "SLURM_NODEID": "0"}).devices is None
    assert job_of({**pair, "SLURM_GPUS_PER_TASK": "4"}).devices is None  # the others' are not to be seen
    assert job_of({**pair, "CUDA_VISIBLE_DEVICES": ""}).devices is None
    with pytest.raises(UserError, match="2 tasks of this Slurm step can't share 3 GPUs"):
        job_of({**pair, "CUDA_VISIBLE_DEVICES": "0,1,2"})


def test_tpu_slices_are_counted_through():
    assert job_of(POD) == Job("h0:8476", 2, 1)
    assert job_of({**POD, **SLICES}) == Job("c:8476", 6, 5)


def test_what_is_given_by_name_comes_first():
    given = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
    assert job_of({**SLURM, **POD, **given}) == Job("a:1", 4, 3)

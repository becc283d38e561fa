"""The queues of all clusters that an experiment was submitted to."""

from __future__ import annotations

from encdec_jax.submit import jobset, slurm
from encdec_jax.submit.record import Queued
from encdec_jax.sweep.experiment import Experiment


def queued(experiment: Experiment) -> dict[str, Queued]:
    """The runs that wait or run in a queue; asks only clusters that the experiment was submitted to.

    Raises:
      UserError: one of them does not answer.
    """
    return jobset.queued(experiment) | slurm.queued(experiment)

"""What a run costs, read off the ledger: the one place where the sweep asks it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from encdec_jax.compute.ledger import count
from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.data.objectives.objective import Means
from encdec_jax.data.rows import segments

_known: dict[Hashable, Cost] = {}  # by all of a run but its seed and optimizer


@dataclass(frozen=True)
class Cost:
    """Of one run, exactly, before it is made.

    Attributes:
      n_params: all parameters.
      n_params_nonembed: without embedding and output tables.
      updates: of the optimizer.
      train_flops: of all updates, forward and backward; attention as its mask requires.
      train_flops_dense: the same; attention as a plain implementation computes it, masked scores too.
      train_flops_padded: `train_flops_dense` with the work on padding: what a plain implementation computes in all.
      mismatch: train_flops / budget - 1; None if the run was not matched to a budget.
    """

    n_params: int
    n_params_nonembed: int
    updates: int
    train_flops: float
    train_flops_dense: float
    train_flops_padded: float
    mismatch: float | None


def cost(run: RunConfig) -> Cost:
    """The cost of a run.

    Raises:
      UserError: as `encdec_jax.compute.ledger.count`.
    """
    packed = segments(run.data) if objective_of(run.objective).pairs else None
    train = tuple(value for name, value in vars(run.train).items() if name != "seed")
    alike = (run.model, run.data, run.objective, run.evaluate, run.mesh, run.budget_flops, packed, train)
    if alike not in _known:  # sweeps vary seeds and rates most, and those are free
        _known[alike] = _cost(run, packed)
    return _known[alike]


def _cost(run: RunConfig, packed: Means | None) -> Cost:
    ledger = count(run, packed)
    n = geometry(run).updates
    train_flops = n * ledger.train_flops.mask
    return Cost(
        n_params=ledger.params.total,
        n_params_nonembed=ledger.params.non_embedding,
        updates=n,
        train_flops=train_flops,
        train_flops_dense=n * ledger.train_flops.dense,
        train_flops_padded=n * (ledger.train_flops.dense + ledger.padding.dense),
        mismatch=None if run.budget_flops is None else train_flops / run.budget_flops - 1,
    )

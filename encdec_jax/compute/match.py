"""Runs of equal training compute: each gets the tokens, and if need be the smaller batch, that spend the budget."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import ceil, inf

from encdec_jax.compute.ledger import count
from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.errors import UserError, require


def match(
    runs: Iterable[RunConfig], *, train_flops: float, min_updates: int = 500, tolerance: float = 0.02
) -> list[RunConfig]:
    """The same runs, trained for `train_flops` each, which becomes their `budget_flops`.

    FLOPs are the ledger's `train_flops.mask`. A run keeps its batch size if `min_updates` updates of it fit in the
    budget. Otherwise the batch is halved until they do, because a fixed batch starves large models of updates.

    Args:
      runs: configurations. Their `train.tokens` is replaced, their `train.batch_size` is the largest that is tried.
      train_flops: the budget of each run, in FLOPs.
      min_updates: the least number of updates of a run.
      tolerance: the largest relative distance from the budget.

    Returns:
      the runs in their order, with `train.tokens`, `train.batch_size` and `budget_flops` set.

    Raises:
      UserError: the budget is too small for a run even with its smallest batch, or its batch does not fit its mesh.
    """
    require(0 < train_flops < inf, "train_flops", train_flops, "a finite number above 0")
    require(min_updates >= 1, "min_updates", min_updates, "a whole number of at least 1")
    require(0 < tolerance < 1, "tolerance", tolerance, "a fraction in (0, 1)")
    return [_matched(run, train_flops, min_updates, tolerance) for run in runs]


def _matched(run: RunConfig, budget: float, min_updates: int, tolerance: float) -> RunConfig:
    shape = geometry(run)
    unit, batch = shape.unit, shape.windows
    require(batch % unit == 0, "train.batch_size", batch, f"a multiple of {unit}, for whole rows on every device")
    smallest = replace(run, train=replace(run.train, batch_size=unit))
    unit_flops = count(smallest).train_flops.mask
    while True:
        flops = unit_flops * (batch // unit)
        updates = round(budget / flops)
        if updates >= min_updates and abs(updates * flops / budget - 1) <= tolerance:
            tokens = updates * batch * shape.window_tokens
            return replace(run, train=replace(run.train, batch_size=batch, tokens=tokens), budget_flops=float(budget))
        if batch == unit:
            raise UserError(_refusal(smallest, budget, unit_flops, max(min_updates, ceil(0.5 / tolerance))))
        batch = batch // 2 // unit * unit


def _refusal(smallest: RunConfig, budget: float, flops: float, updates: int) -> str:
    size, least = smallest.model.decoder, 1.0005 * updates * flops  # so that its four digits are not below it
    return (
        f"train_flops = {budget:.4g} is not accepted: at least {least:.4g}, which pays {updates} updates at batch size"
        f" {smallest.train.batch_size} for {smallest.model.arch} with d_model {size.d_model} and {size.n_layers} layers"
    )

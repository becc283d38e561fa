"""Finds what is wrong with an experiment before anything is spent on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from encdec_jax.compute.limits import check_mesh, check_places, check_size
from encdec_jax.config import RunConfig
from encdec_jax.data import corpus
from encdec_jax.data.cache import TokenCache, manifest_of
from encdec_jax.data.demands import check_demands
from encdec_jax.data.origin import shipped
from encdec_jax.errors import UserError
from encdec_jax.sweep.branch import paid
from encdec_jax.sweep.cost import cost
from encdec_jax.sweep.experiment import Experiment
from encdec_jax.sweep.identity import scored
from encdec_jax.sweep.store import RunState
from encdec_jax.sweep.waiting import Beginnings
from encdec_jax.sweep.waiting import states as run_states

Tokens = tuple[str, str]  # a task and a vocabulary


def check_costs(experiment: Experiment) -> None:
    """Check that every run's architecture, shape, objective, mesh and budget go together, that a device could hold it,
    and that all are scored alike.

    Raises:
      UserError: naming the first run whose do not, or that is scored on other text or windows than the first.
    """
    first, like = next(iter(experiment.runs.items()))
    asked = set()  # what the devices are asked for: seeds and rates ask for nothing
    for identity, run in experiment.runs.items():
        try:
            batch = (run.train.batch_size, run.train.accumulate, run.mesh)
            size = (run.model, run.data, run.objective, run.evaluate, *batch)
            if size not in asked:
                check_size(run)
                check_mesh(run)
                check_places(run)
                asked.add(size)
            paid(experiment, identity)
            cost(run)
            for column, fields, alike in (
                ("scored", "evaluate.prefix, suffix, windows or data.eval_split", _alike(run, like)),
                ("cache_digest", "data.task or vocab", _tokens(run) == _tokens(like)),
            ):
                if not alike and column not in experiment.pooled:
                    raise UserError(
                        f"is scored on other held-out windows than run {first} ({fields}): make them equal, or say in"
                        f" sweep.py why they may be pooled, as POOLED = {{'{column}': '...'}}"
                    )
        except UserError as error:
            raise _of(experiment, identity, error) from error


def check_data(experiment: Experiment, states: Mapping[str, RunState] | None = None) -> list[Tokens]:
    """Check that the tokens of every run are there and whole, and that the run's fields fit them.

    Args:
      experiment: the experiment.
      states: of its runs, where they have just been read.

    Returns:
      tokens of the shipped text that are not there yet, or of another text than ships now, which `encdec run` prepares.

    Raises:
      UserError: other tokens are not there, some are damaged, a run does not fit them, or ended on other ones; or one
        begins at a run that can never be there (`train.init_from`).
    """
    found = run_states(experiment) if states is None else states
    beginnings = Beginnings(experiment, found)
    caches: dict[Tokens, TokenCache | None] = {}
    asked = set()  # what demands are made of: seeds and rates make none
    for identity, run in experiment.runs.items():
        tokens = _tokens(run)
        try:
            beginnings.check(identity)
            if tokens not in caches:
                caches[tokens] = None if _to_prepare(*tokens) else TokenCache.open(*tokens)
            cache = caches[tokens]
            if cache is not None:
                if (demands := (run.model, run.data, run.objective, run.evaluate)) not in asked:
                    check_demands(run, cache)
                    asked.add(demands)
                _check_ended(experiment, experiment.run_folder(identity), found[identity], cache)
        except UserError as error:
            raise _of(experiment, identity, error) from error
    return [tokens for tokens, cache in caches.items() if cache is None]


def _alike(run: RunConfig, like: RunConfig) -> bool:
    """Whether two runs are scored alike; hashed only where they are not equal outright."""
    equal = (run.evaluate, run.data.eval_split) == (like.evaluate, like.data.eval_split)
    return equal or scored(run) == scored(like)


def _tokens(run: RunConfig) -> Tokens:
    return run.data.task, run.data.vocab


def _to_prepare(task: str, vocab: str) -> bool:
    return task in corpus.FEATURES and (manifest_of(task, vocab) or {}).get("source") != shipped()


def _check_ended(experiment: Experiment, folder: Path, state: RunState, cache: TokenCache) -> None:
    """Refuse to add runs to a study whose others, in the same folder, were made of other tokens."""
    if state.summary is None:  # there is none, or a damaged one, which is a row of its own
        return
    made = state.summary["cache_digest"]
    if made != cache.digest and "cache_digest" not in experiment.pooled:
        raise UserError(
            f"{folder} was made of other tokens (digest is {made:.12} there, {cache.digest:.12} now): remove it,"
            " or say in sweep.py why they may be pooled, as POOLED = {'cache_digest': '...'}"
        )


def _of(experiment: Experiment, identity: str, error: UserError) -> UserError:
    return UserError(f"{experiment.folder / 'sweep.py'}: run {identity}: {error}")

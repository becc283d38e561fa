"""How sure a law is that was fitted to a table of many runs, ours or anybody's: case resampling.

Runs, or whole groups of them, are drawn with replacement, and no form of noise is assumed. `encdec_jax.laws.fit.refit`
takes the weights. Of few groups it sees too little of how they differ: `Interval.of` widens for `units`, and fewer than
`MIN_UNITS` are refused (experiments/calibration measures both). Studies of a few sizes a budget are resampled around
their curves instead (`encdec_jax.study.noise`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from encdec_jax.errors import UserError, require

Scheme = Literal["run", "seed", "budget", "hierarchical"]
SCHEMES = ("run", "seed", "budget", "hierarchical")
MIN_UNITS = 5
_SEED = 20_220_329


def weights(groups: Mapping[str, np.ndarray], scheme: Scheme, resamples: int = 1000) -> np.ndarray:
    """How often each run is drawn in each resample, int64 [resamples, runs].

    'run' draws runs. 'seed' and 'budget' draw all runs of a seed, or of a budget, together, for noise that these share.
    'hierarchical' draws budgets, then runs within each budget drawn. Runs of one trunk (learning rates decayed from
    points of one run, say) share its noise: they are one unit, drawn together in every scheme.

    Args:
      groups: columns [runs] that say which runs belong together: 'seed' and 'budget' for the schemes that need them,
        'trunk' where runs have one (null or NaN: a run of its own), 'run' or any other only for their number.
      scheme: one of `SCHEMES`.
      resamples: how many.

    Raises:
      UserError: the scheme is unknown, a column that it needs is missing, there are fewer than `MIN_UNITS` units, or a
        trunk has runs in several of the scheme's groups.
    """
    random = np.random.default_rng(_SEED)
    unit, strata = _units(groups, scheme)
    n = int(unit.max()) + 1
    if scheme != "hierarchical":
        return _drawn(random, n, np.full(resamples, n))[:, unit]
    per_unit = np.zeros((resamples, n), np.int64)
    times = _drawn(random, len(strata), np.full(resamples, len(strata)))
    for stratum, members in enumerate(strata):
        per_unit[:, members] = _drawn(random, len(members), times[:, stratum] * len(members))
    return per_unit[:, unit]


def units(groups: Mapping[str, np.ndarray], scheme: Scheme) -> int:
    """How many units a scheme draws from, of 'hierarchical' the budgets. Arguments and errors as of `weights`."""
    found, strata = _units(groups, scheme)
    return len(strata) or int(found.max()) + 1


def leave_out(groups: Mapping[str, np.ndarray], scheme: Scheme) -> np.ndarray:
    """Weights that leave out one unit each, int64 [units, runs], for the acceleration of 'bca' intervals.

    Units are what the scheme draws; for 'hierarchical' the budgets, whose differences weigh most. Arguments and errors
    are those of `weights`.
    """
    unit, strata = _units(groups, scheme)
    if scheme == "hierarchical":
        budget = np.empty(int(unit.max()) + 1, np.int64)
        for stratum, members in enumerate(strata):
            budget[members] = stratum
        unit = budget[unit]
    return (unit != np.arange(int(unit.max()) + 1)[:, None]).astype(np.int64)


def _drawn(random: np.random.Generator, n: int, times: np.ndarray) -> np.ndarray:
    """How often each of `n` comes up in `times` [resamples] draws with replacement, int64 [resamples, n]."""
    return random.multinomial(times, np.full(n, 1 / n)).astype(np.int64)


def _units(groups: Mapping[str, np.ndarray], scheme: Scheme) -> tuple[np.ndarray, list[np.ndarray]]:
    """The unit of each run, counted from 0, [runs]; and of 'hierarchical' the units of each budget."""
    require(scheme in SCHEMES, "bootstrap scheme", scheme, "one of " + ", ".join(SCHEMES))
    level = {"run": None, "hierarchical": "budget"}.get(scheme, scheme)
    if not groups or (level is not None and level not in groups):
        raise UserError(f"bootstrap scheme = {scheme!r} is not accepted: the table has no column {level or 'run'!r}")
    runs = len(next(iter(groups.values())))
    trunks = _trunks(groups["trunk"]) if "trunk" in groups else np.arange(runs)
    if level is None:
        unit, strata = trunks, []
    else:
        _, above = np.unique(np.asarray(groups[level]), return_inverse=True)
        spans = [trunk for trunk in np.unique(trunks) if len(np.unique(above[trunks == trunk])) > 1]
        require(not spans, "bootstrap scheme", scheme, f"'run': a trunk has runs in more than one {level}")
        members = [np.unique(trunks[above == group]) for group in range(int(above.max()) + 1)]
        unit, strata = (trunks, members) if scheme == "hierarchical" else (above, [])
    found = len(strata) or int(unit.max()) + 1
    accepted = f"a scheme that draws from {MIN_UNITS} groups or more: of {found}, intervals are far too short"
    require(found >= MIN_UNITS, "bootstrap scheme", scheme, accepted)
    return unit, strata


def _trunks(names: np.ndarray) -> np.ndarray:
    """Each run's trunk, counted from 0; runs without a name are trunks of their own."""
    labels = [
        ("run", place) if name is None or name != name else ("trunk", name)
        for place, name in enumerate(np.asarray(names, dtype=object))
    ]
    order = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    return np.array([order[label] for label in labels])

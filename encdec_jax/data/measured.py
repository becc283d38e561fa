"""Lengths that the text decides, measured: what an objective makes of windows of it."""

from __future__ import annotations

from functools import cache

import numpy as np

from encdec_jax.config import RunConfig
from encdec_jax.data.cache import TokenCache, cache_folder
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.demands import text
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.data.objectives.objective import Means, OfWindows, frame_of
from encdec_jax.data.rows import kinds

WINDOWS = 16_384  # measured; evenly spaced over the split, some twice where it has fewer


def measured(run: RunConfig) -> Means:
    """What a window of a run becomes, where the text decides: (source tokens, target tokens, share) of the kinds.

    Raises:
      UserError: the tokens are not there, or have no window.
    """
    found = cache_folder(run.data.task, run.data.vocab) / "manifest.json"
    stamp = found.stat().st_mtime_ns if found.exists() else None
    return _measured(run.data, run.objective, (stamp, str(found)))


@cache
def _measured(data: DataConfig, config: ObjectiveConfig, stamp: object) -> Means:
    del stamp  # the tokens are looked at again when they have changed
    tokens = TokenCache.open(data.task, data.vocab)
    objective, windows = objective_of(config), text(tokens, data, config.name)
    assert isinstance(objective, OfWindows)
    number = np.arange(WINDOWS) * windows.count // WINDOWS
    frame = frame_of(objective, tokens.vocab, data, WINDOWS)
    seen = objective.view(windows[number], np.arange(WINDOWS), 0, frame)
    return tuple((s, t, n / WINDOWS) for s, t, n in kinds(seen.source_lengths, seen.target_lengths))

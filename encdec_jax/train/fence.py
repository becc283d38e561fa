"""What keeps a process from writing into a run that another has taken over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Fence:
    """A claim on a run, as training sees it (`encdec_jax.sweep.lease.Lease`); by default there is nobody to fear.

    Attributes:
      number: of the claim; later ones are higher. It is part of what a run's folder says of who wrote it.
      check: to be called before each write that matters; does not return if the run is no longer this process's.
      progressed: to be called when the run has made progress.
    """

    number: int = 0
    check: Callable[[], None] = lambda: None
    progressed: Callable[[], None] = lambda: None

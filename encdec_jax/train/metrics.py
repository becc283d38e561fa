"""Metrics of a run: lines of JSON that a restart continues, and mirrors of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from encdec_jax.train.lines import Lines
from encdec_jax.train.mirrors import Mirror, asked


class MetricsLog:
    """Writes `metrics.jsonl` (the same bytes however often a run was killed) and `timing.jsonl`, and mirrors them."""

    def __init__(self, folder: Path, first_step: int, copy: str | None, check: Callable[[], None]) -> None:
        """Open for appending behind the lines of updates up to `first_step`; later and torn lines are cut off.

        Args:
          folder: of the run.
          first_step: the update that the run begins or goes on from.
          copy: what metrics.jsonl held up to there, by the checkpoint; None at the beginning.
          check: asked right before a file takes its place (`encdec_jax.train.fence.Fence.check`).

        Raises:
          UserError: the folder can't be written to, or a mirror that is asked for is unknown.
        """
        self._metrics = Lines(folder / "metrics.jsonl", first_step, copy, check)
        self._timing = Lines(folder / "timing.jsonl", first_step, check=check)
        self._mirrors = [Mirror(name, folder, first_step) for name in asked()]

    @property
    def text(self) -> str:
        """What metrics.jsonl holds."""
        return self._metrics.text

    def write(self, *, step: int, **values: float) -> None:
        """Write what training itself gives, after update `step`; values that are not finite become null."""
        self._metrics.write({"step": step, **{name: _finite(value) for name, value in values.items()}})
        for mirror in self._mirrors:
            mirror.write(step, values)

    def write_timing(self, *, step: int, **values: float) -> None:
        """Write what clocks say, after update `step`."""
        self._timing.write({"step": step, **values})

    def close(self) -> None:
        """Close the files, and end the mirrors."""
        self._metrics.close()
        self._timing.close()
        for mirror in self._mirrors:
            mirror.close()


def _finite(value: float) -> float | None:
    return value if value - value == 0 else None

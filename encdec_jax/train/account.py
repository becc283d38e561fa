"""What a run has come to, added up call by call."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from encdec_jax.train.step import Metrics


@dataclass(frozen=True)
class Call:
    """Updates that the devices were given.

    Attributes:
      done: updates of the run when these are.
      n: how many they are.
      seen: their metrics, on the devices.
      begun: the clock when they were given.
      hash: of the tokens seen up to them, by this process's windows.
      bits: what waits for the held-out text to be scored behind them; None where it is not.
    """

    done: int
    n: int
    seen: Metrics
    begun: float
    hash: str
    bits: Callable[[], np.ndarray] | None


@dataclass
class Account:
    """What a checkpoint carries beside the state.

    Attributes:
      wall_s: seconds of all parts of the run.
      step_s: seconds in which the devices had updates to do.
      evaluate_s, evaluations: seconds in which they scored held-out text on the way, and how often.
      loss_tokens: trained on.
      skipped: updates that were left out because their loss or gradient was not finite.
      data_hash: of the tokens seen.
      train_loss: mean of the last call, nats a loss token; NaN before the first.
      execution: how the parts were executed: fields of execution, each part with the update that it began at.
      pretrain_flops: training FLOPs that the parameters had cost before the run began; 0 for those drawn anew.
    """

    wall_s: float = 0.0
    step_s: float = 0.0
    evaluate_s: float = 0.0
    evaluations: int = 0
    loss_tokens: float = 0.0
    skipped: int = 0
    data_hash: str = ""
    train_loss: float = math.nan
    execution: list[dict[str, Any]] = field(default_factory=list)
    pretrain_flops: float = 0.0

    def executed(self, how: dict[str, Any], update: int) -> None:
        """Remember how the part from this update on is executed, if it is not as the part before."""
        if not self.execution or {**self.execution[-1], "update": 0} != {**how, "update": 0}:
            self.execution.append({**how, "update": update})

    def stated(self) -> dict[str, Any]:
        """What a summary says of it."""
        names = ("loss_tokens", "pretrain_flops", "step_s", "evaluate_s", "evaluations", "skipped", "execution")
        loss = self.train_loss if math.isfinite(self.train_loss) else None
        return {"train_loss": loss, **{name: getattr(self, name) for name in names}}

    def add(self, seen: Metrics, skip: int) -> tuple[dict[str, float], bool]:
        """Add the updates of a call.

        Args:
          seen: numpy leaves [updates].
          skip: `optim.skip`.

        Returns:
          what metrics.jsonl says of them, and whether the run may go on.
        """
        sound = np.isfinite(seen.loss) & np.isfinite(seen.grad_norm)
        self.skipped += int((~sound).sum()) if skip else 0
        counted = sound if skip else np.ones_like(sound)
        loss, norm, tokens = (part[counted] for part in (seen.loss, seen.grad_norm, seen.loss_tokens))
        self.loss_tokens += float(tokens.sum(dtype=np.float64))
        none = not len(loss)
        self.train_loss = math.nan if none else float(loss.mean(dtype=np.float64))
        values = {
            "loss": self.train_loss,
            "grad_norm": math.nan if none else float(norm.mean(dtype=np.float64)),
            "lr": float(seen.lr[-1]),
            **{
                name: math.nan if none else float(value[counted].mean(dtype=np.float64))
                for name, value in seen.numbers.items()
            },
        }
        return values | ({"skipped": self.skipped} if skip else {}), self.skipped <= skip if skip else bool(sound.all())

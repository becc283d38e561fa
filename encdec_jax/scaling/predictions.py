"""What is expected of an experiment before it runs, and whether it held. Imports nothing heavy: sweep.py needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from encdec_jax.errors import UserError

if TYPE_CHECKING:
    from encdec_jax.scaling.findings import Findings

Verdict = Literal["held", "failed", "undecided"]


class Undecided(Exception):
    """Raised by `Findings` when asked for what its runs do not show; leaves a prediction undecided."""


@dataclass(frozen=True)
class Prediction:
    """One expectation.

    Attributes:
      text: what is expected, in a sentence.
      check: of what was found: True if it held, False if it failed, None if the intervals do not tell. An
        `Interval`'s `above` and `below` answer in this way.
    """

    text: str
    check: Callable[[Findings], bool | None]

    def score(self, findings: Findings) -> Verdict:
        """Whether the prediction held.

        Raises:
          UserError: the check itself is at fault: it raises, or gives something other than a truth value or None.
        """
        try:
            outcome = self.check(findings)
        except Undecided:
            return "undecided"
        except Exception as error:
            raise UserError(f"prediction {self.text!r}: its check raises {type(error).__name__}: {error}") from error
        if outcome is None:
            return "undecided"
        if outcome in (True, False):  # NumPy's truth values too
            return "held" if outcome else "failed"
        raise UserError(f"prediction {self.text!r}: its check gives {outcome!r}; accepted: True, False or None")

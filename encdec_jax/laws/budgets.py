"""Which runs have one budget, where budgets are measured FLOPs that differ a little from run to run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from encdec_jax.errors import UserError

_NEAR = 0.02  # neighbours in size that differ by less have one budget
_SPAN = 0.05  # of a budget, from its least to its largest: beyond, the values run into each other


def budgets(values: np.ndarray, what: str) -> np.ndarray:
    """The budget of each value, [points]: the middle one of those near to each other.

    Args:
      values: FLOPs above 0, [points].
      what: they are, as an error names it.

    Raises:
      UserError: values run into each other, so that no budgets stand apart.
    """
    unique, place = np.unique(np.asarray(values, np.float64), return_inverse=True)
    group = np.concatenate([[0], np.cumsum(np.diff(unique) > _NEAR * unique[:-1])])
    middle = np.empty(len(unique))
    for one in range(int(group[-1]) + 1):
        near = unique[group == one]
        if near[-1] > near[0] * (1 + _SPAN):
            raise UserError(
                f"{what}: {len(near)} values from {near[0]:.4g} to {near[-1]:.4g} run into each other; "
                f"accepted: budgets more than {_NEAR:.0%} apart, each at most {_SPAN:.0%} wide"
            )
        middle[group == one] = near[(len(near) - 1) // 2]
    return middle[place]


def printed(value: float, known: Sequence[float]) -> float:
    """The known budget that a value means, itself or rounded to two digits or more, as 3.8e11 is of 3.78e11.

    Args:
      value: FLOPs.
      known: budgets.

    Returns:
      the value, if it is none of them, or rounds several.
    """
    if value in known:
        return value
    digits = max(len(f"{value:.16e}".partition("e")[0].replace(".", "").rstrip("0")), 2)
    near = [one for one in known if float(f"{one:.{digits - 1}e}") == float(f"{value:.{digits - 1}e}")]
    return near[0] if len(near) == 1 else value

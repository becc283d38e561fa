"""Whether numbers are in the units that laws are written in: parameters, tokens, FLOPs."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

_UNITS = {"n": "parameters", "d": "tokens", "c": "FLOPs", "n_enc": "parameters", "n_dec": "parameters", "u": "tokens"}
_LEAST = {"parameters": 1e3, "tokens": 1e5, "FLOPs": 1e9}  # no run has fewer: they are counted in larger units
_COUNTING = 100.0  # times that C may differ from 6ND: no convention does by more
TOKENS_PER_PARAMETER = (0.1, 5e3)  # medians beyond are taken for a mistake in the units
# What a published law (Hoffmann et al. 2022, arXiv 2203.15556, as fitted again in arXiv 2404.10102) says of a token's
# loss; of bytes it is about a quarter.
_LAW = (1.8172, 482.01, 0.3478, 2085.43, 0.3658)
_FAR_BELOW, _CLOSE = 0.5, (0.6, 1.6)  # losses over that law's: of units too large, and of right ones
_THOUSANDS = {"n": (1e3, 1.0), "d": (1.0, 1e3), "n and d": (1e3, 1e3)}
_NAMED = re.compile(
    r".*?(?:[^a-z0-9](k|m|mm|b|bn|g|t)|(thousand|million|billion|trillion)s?|(?:in|per|/)[ _]?(1e\d+))[^a-z0-9]*",
    re.IGNORECASE | re.DOTALL,
)


def tokens_per_parameter(columns: Mapping[str, np.ndarray]) -> str | None:
    """What is odd about the median of d / n, in words; None if nothing is, or one of the two is not there."""
    if not {"n", "d"} <= set(columns):
        return None
    ratio = float(np.median(columns["d"] / columns["n"]))
    if TOKENS_PER_PARAMETER[0] <= ratio <= TOKENS_PER_PARAMETER[1]:
        return None
    return f"the median of d/n is {ratio:.3g} tokens a parameter: are both in the same unit?"


def doubts(columns: Mapping[str, np.ndarray], names: Mapping[str, str], loss: np.ndarray, of_loss: str) -> list[str]:
    """What is odd about a table's units, a line each; d / n is left to `tokens_per_parameter`.

    Args:
      columns: by role, [points], above 0; those of `_UNITS` are looked at.
      names: of the columns in the table, by role.
      loss: [points].
      of_loss: name of its column.
    """
    found = []
    for role in (role for role in _UNITS if role in columns):
        unit, values = _UNITS[role], columns[role]
        span = f"{role} from {values.min():.3g} to {values.max():.3g}"
        if values.min() < _LEAST[unit]:
            found.append(f"{span}: are these {unit}, or thousands, millions or billions of them?")
        elif match := _NAMED.fullmatch(names.get(role, role)):
            written = next(part for part in match.groups() if part)
            found.append(f"{span}: is the column {names[role]!r} in {unit}, or in units of {written!r}?")
    n, d, c = (columns.get(role) for role in ("n", "d", "c"))
    if n is None or d is None:
        return found
    if c is not None:
        ratio = float(np.median(c / (6 * n * d)))
        if not 1 / _COUNTING <= ratio <= _COUNTING:
            found.append(f"C/(6ND) = {ratio:.3g} in the median run: is c in FLOPs, n in parameters, d in tokens?")
    if not found and "byte" not in of_loss.lower() and _share(n, d, loss) < _FAR_BELOW:
        shares = {which: _share(n * by_n, d * by_d, loss) for which, (by_n, by_d) in _THOUSANDS.items()}
        which, share = min(shares.items(), key=lambda item: abs(item[1] - 1))
        if _CLOSE[0] <= share <= _CLOSE[1]:
            found.append(
                f"n from {n.min():.3g} to {n.max():.3g} and d from {d.min():.3g} to {d.max():.3g}: losses are those of "
                f"a published law if {which} count thousands: do they, or are these losses of bytes or characters?"
            )
    return found


def _share(n: np.ndarray, d: np.ndarray, loss: np.ndarray) -> float:
    """Losses over those of the published law, in the median."""
    e, a, alpha, b, beta = _LAW
    return float(np.median(loss / (e + a / n**alpha + b / d**beta)))

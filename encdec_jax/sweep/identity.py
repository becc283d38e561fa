"""What makes two runs the same run: their resolved configurations."""

from __future__ import annotations

import hashlib
import json

from encdec_jax.config import RunConfig, from_dict, to_dict
from encdec_jax.errors import UserError

DIGITS = 12  # 48 bits: a clash among a million runs has a chance of 1 in 500


def run_id(run: RunConfig) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of the configuration as canonical JSON.

    The configuration is first brought to its fields' types, so that 1 and 1.0 in a float field are one run.

    Raises:
      UserError: a field holds a value of another type than declared, or a number that is not finite.
    """
    resolved = to_dict(from_dict(to_dict(run)))
    try:
        text = json.dumps(resolved, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise UserError(f"the configuration of a run holds a number that is not finite: {resolved}") from error
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]

"""What makes two runs the same run: their resolved configurations."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from encdec_jax.config import RunConfig, from_dict, to_dict
from encdec_jax.errors import UserError

DIGITS = 12  # 48 bits: a clash among a million runs has a chance of 1 in 500


def run_id(run: RunConfig) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of the configuration as canonical JSON.

    The configuration is first brought to its fields' types, so that 1 and 1.0 in a float field are one run. A field
    that was added later (`config.later`) enters only where it differs from its default.

    Raises:
      UserError: a field holds a value of another type than declared, or a number that is not finite.
    """
    resolved = _entering(from_dict(to_dict(run)))
    try:
        text = json.dumps(resolved, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise UserError(f"the configuration of a run holds a number that is not finite: {resolved}") from error
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _entering(config: Any) -> Any:
    """The fields of a configuration that make it another run, as plain nested data."""
    if not dataclasses.is_dataclass(config):
        return config
    return {
        f.name: _entering(value)
        for f in dataclasses.fields(config)
        if (value := getattr(config, f.name)) != f.default or not f.metadata.get("later")
    }

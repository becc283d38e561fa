"""What a run's summary.json says of it, checked before anybody believes it. No jax here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from encdec_jax.config import EXECUTION
from encdec_jax.errors import UserError
from encdec_jax.files import read_json
from encdec_jax.ranges import finite
from encdec_jax.train.config import Ended


def read_summary(path: Path) -> dict[str, Any]:
    """A summary of which every value is of its kind.

    Raises:
      UserError: the file is missing or damaged; the line names the file, what is wrong in it and what to do.
    """
    try:
        found = read_json(path)
        wrong = _wrong(found)
    except UserError as error:
        wrong = str(error)
    if wrong is None:
        return dict(found)
    raise UserError(f"{path} is damaged: remove it, and the run goes on ({wrong})")


def _wrong(found: Any) -> str | None:
    if not isinstance(found, dict):
        return "it holds no object with named values"
    for name, sound in _STATED.items():
        if name not in found:
            return f"it lacks {name}"
        if not sound(found[name]):
            return f"{name} is {found[name]!r:.80}"
    for name, sound in _OPTIONAL.items():
        if name in found and not sound(found[name]):
            return f"{name} is {found[name]!r:.80}"
    if found["status"] == "done" and found["suffix_bits_per_byte"] is None:
        return "it is done and has no suffix_bits_per_byte"
    return None


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _number(value: Any) -> bool:
    return type(value) in (int, float) and finite(value)


def _time(value: Any) -> bool:
    return _number(value) and value >= 0


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _or_none(sound: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or sound(value)


def _parts(value: Any) -> bool:
    """How a run was executed: a list of what `encdec_jax.config.execution` gives, part by part."""
    simple = (bool, int, str, type(None))
    return isinstance(value, list) and all(
        isinstance(part, dict) and all(isinstance(part.get(path), simple) for path in EXECUTION) for part in value
    )


def _rates(value: Any) -> bool:
    """Of further held-out sets, by name."""
    return isinstance(value, dict) and all(map(_or_none(_number), value.values()))


_STATED = {
    "status": lambda value: value in get_args(Ended),
    "updates": _count,
    "tokens_seen": _count,
    "suffix_bits_per_byte": _or_none(_number),
    "wall_s": _time,
    "step_s": _time,
    "cache_digest": _text,
    "versions": lambda value: isinstance(value, dict) and all(map(_text, value.values())),
}
_OPTIONAL = {
    **dict.fromkeys(
        ("loss_tokens", "suffix_bits_se", "train_loss", "pretrain_flops", "dropped", "dropped_eval"), _or_none(_number)
    ),
    **dict.fromkeys(("data_hash", "code", "commit", "error"), _or_none(_text)),
    "tokens_per_s": _or_none(_time),
    "execution": _parts,
    **dict.fromkeys(("held_out", "held_out_se"), _rates),
    "lease": _count,
}

"""Which axis of the mesh (data, fsdp, tensor, sequence) divides which logical axis. Plain data, for the ledger too."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, prod

AXES = ("data", "fsdp", "tensor", "sequence")
ROWS = ("data", "fsdp")  # divide the rows of a batch
TOKENS = "sequence"  # divides the tokens of each row
RULES: dict[str, str | None] = {  # divide the axes of parameters, and of activations that have them
    "vocab": "tensor",
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
    "experts": "tensor",
    "expert_mlp": None,
    "choices": None,
    "softmaxes": None,
    "context": None,
    "taps": None,
    "embed": "fsdp",
    "head_dim": None,
    "layers": None,
    "norm": None,
    "positions": None,
    "buckets": None,
}
WHOLE = ("vocab", "heads", "kv_heads")  # each device of an axis holds all of what the axis does not divide
LOGITS = 1 << 29  # bytes of float32 logits that a device holds at once


def axis_of(logical: str, size: int, mesh: Mapping[str, int]) -> str | None:
    """The axis of the mesh that divides a parameter's logical axis; None where none does, and each device has all."""
    name = RULES[logical]
    return None if name is None or (logical in WHOLE and size % mesh[name]) else name


def logit_chunks(rows: float, positions: int, vocab: int, mesh: Mapping[str, int]) -> int:
    """Chunks that the positions of a loss are taken in, for a device to hold at most `LOGITS` at once.

    Args:
      rows, positions: of the batch, on all devices.
      vocab: logits of a position.
      mesh: devices along each axis; absent ones are 1.
    """
    divided = prod(mesh.get(axis, 1) for axis in AXES)
    return min(positions, ceil(4 * rows * positions * vocab / divided / LOGITS))

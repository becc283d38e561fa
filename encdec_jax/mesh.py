"""Which axis of the mesh (data, fsdp, tensor) divides which logical axis. Plain data: the ledger reads it too."""

from __future__ import annotations

AXES = ("data", "fsdp", "tensor")
ROWS = ("data", "fsdp")  # divide the rows of a batch
RULES: dict[str, str | None] = {  # divide the axes of parameters, and of activations that have them
    "vocab": "tensor",
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
    "embed": "fsdp",
    "head_dim": None,
    "layers": None,
    "norm": None,
}

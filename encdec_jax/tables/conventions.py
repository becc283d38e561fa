"""A run's training FLOPs in another codebase's convention, beside the ledger's."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from encdec_jax import text
from encdec_jax.compute.conventions import CONVENTIONS, restate
from encdec_jax.compute.ledger import count
from encdec_jax.config import RunConfig


def restated_json(run: RunConfig, name: str) -> dict[str, Any]:
    """`restate` beside the ledger as plain data.

    Returns:
      'convention' and its 'definition'; training FLOPs by 'parts' of a row, and of a 'token', a 'row', an 'update' and
      the 'run'; 'over_ledger': the ratio to the ledger's 'mask' and 'dense' counts.

    Raises:
      UserError: as `restate`.
    """
    told, ledger = restate(run, name), count(run).train_flops
    return {
        "convention": name,
        "definition": _definition(name),
        "parts": told.parts,
        "token": told.token,
        "row": told.row,
        "update": told.update,
        "run": told.run,
        "over_ledger": {"mask": told.update / ledger.mask, "dense": told.update / ledger.dense},
    }


def print_restated(run: RunConfig, console: Console, name: str) -> None:
    """Print a run's training FLOPs in a convention, by its own parts, beside the ledger's.

    Raises:
      UserError: as `restate`.
    """
    told, ledger = restate(run, name), count(run).train_flops
    columns = ("a token", "a row", "an update", "the run", "over this")
    table = text.titled(f"Training FLOPs as {name} counts them", "", *columns)

    def line(label: str, row: float, ratio: str, style: str = "") -> None:
        update = row * told.rows
        numbers = (row / told.tokens, row, update, update * told.updates)
        table.add_row(label, *(f"{n:.4g}" for n in numbers), ratio, style=style)

    for part, row in told.parts.items():
        line(part, row, "")
    table.add_section()
    line(name, told.row, "1", "bold")
    for label, update in (("ledger, mask", ledger.mask), ("ledger, dense", ledger.dense)):
        line(label, update / told.rows, f"{update / told.update:.4f}")
    console.print(table)
    console.print(_definition(name), style="dim", highlight=False)


def _definition(name: str) -> str:
    return " ".join((CONVENTIONS[name].__doc__ or "").split())

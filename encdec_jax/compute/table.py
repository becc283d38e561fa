"""The ledger for people (a table) and for programs (one JSON object)."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from encdec_jax.compute.ledger import CONVENTION, Flops, Ledger, count
from encdec_jax.config import RunConfig
from encdec_jax.data.layout import updates, window_tokens


def print_count(run: RunConfig, console: Console) -> None:
    """Print parameters and FLOPs of a run, by group and by stream, of an update and of the whole run.

    Raises:
      UserError: as `count`.
    """
    ledger = count(run)
    console.print(_parameters(ledger))
    console.print(_flops(ledger))
    console.print(_whole(run, ledger))
    console.print(CONVENTION, style="dim", highlight=False)


def count_json(run: RunConfig) -> dict[str, Any]:
    """The ledger of a run as plain data.

    Returns:
      'params': total, non_embedding and groups. 'flops' of one row of the batch ('forward', 'train_step', and
      'recompute', which the train step leaves out): mask, dense, and the same by groups and by streams. 'lengths' of
      a row in tokens. 'run': rows of a batch, updates, tokens, and FLOPs of all updates. 'convention': what counts.

    Raises:
      UserError: as `count`.
    """
    ledger = count(run)
    n, row = _updates(run), ledger.row
    kinds = {"forward": ledger.forward, "train_step": ledger.train_flops, "recompute": ledger.recompute}
    total = ledger.train_flops
    return {
        "params": {
            "total": ledger.params.total,
            "non_embedding": ledger.params.non_embedding,
            "groups": dict(ledger.params.groups),
        },
        "flops": {name: _plain(flops, ledger.rows) for name, flops in kinds.items()},
        "lengths": {"windows": row.windows, "source": row.source, "target": row.target, "scored": row.scored},
        "run": {
            "rows": ledger.rows,
            "updates": n,
            "tokens": n * run.train.batch_size * window_tokens(run.data, run.objective),
            "train_flops": {"mask": n * total.mask, "dense": n * total.dense},
        },
        "convention": CONVENTION,
    }


def _updates(run: RunConfig) -> int:
    return updates(run.train, window_tokens(run.data, run.objective))


def _plain(flops: Flops, rows: int) -> dict[str, Any]:
    def sums(part: Flops) -> dict[str, float]:
        return {"mask": part.mask / rows, "dense": part.dense / rows}

    return {
        **sums(flops),
        "groups": {name: sums(part) for name, part in flops.by("group").items()},
        "streams": {name: sums(part) for name, part in flops.by("stream").items()},
    }


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    return table


def _parameters(ledger: Ledger) -> Table:
    table = _table("Parameters", "group", "number", "share")
    params = ledger.params
    for group, n in params.groups.items():
        table.add_row(group, f"{n:,}", f"{n / params.total:.1%}")
    table.add_section()
    table.add_row("non-embedding", f"{params.non_embedding:,}", f"{params.non_embedding / params.total:.1%}")
    table.add_row("total", f"{params.total:,}", "100.0%", style="bold")
    return table


def _flops(ledger: Ledger) -> Table:
    row = ledger.row
    source = f"{row.source} source and " if row.source else ""
    title = f"FLOPs of an update: {ledger.rows} rows of {source}{row.target} target tokens, {row.scored} scored"
    table = _table(title, "", "forward, mask", "dense", "train step, mask", "dense", "share of mask")
    total = ledger.train_flops

    def line(name: str, forward: Flops, train: Flops, style: str = "") -> None:
        numbers = (forward.mask, forward.dense, train.mask, train.dense)
        table.add_row(name, *(f"{n:.4g}" for n in numbers), f"{train.mask / total.mask:.1%}", style=style)

    for group, train in total.by("group").items():
        line(group, ledger.forward.by("group")[group], train)
    table.add_section()
    for stream, train in total.by("stream").items():
        line(f"stream: {stream}", ledger.forward.by("stream")[stream], train)
    table.add_section()
    line("total", ledger.forward, total, "bold")
    again = ledger.recompute
    if again.entries:
        table.add_row("recomputed by remat, on top", "", "", f"{again.mask:.4g}", f"{again.dense:.4g}", "")
    return table


def _whole(run: RunConfig, ledger: Ledger) -> Table:
    n, total = _updates(run), ledger.train_flops
    table = Table(title="The whole run", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    tokens = n * run.train.batch_size * window_tokens(run.data, run.objective)
    table.add_row("updates", f"{n:,}")
    table.add_row("tokens", f"{tokens:,}")
    table.add_row("training FLOPs, mask", f"{n * total.mask:.4g}")
    table.add_row("training FLOPs, dense", f"{n * total.dense:.4g}")
    if run.budget_flops is not None:
        table.add_row("budget, FLOPs", f"{run.budget_flops:.4g}")
        table.add_row("distance from the budget", f"{n * total.mask / run.budget_flops - 1:+.2%}")
    return table

"""The ledger for people (a table) and for programs (one JSON object)."""

from __future__ import annotations

from dataclasses import asdict
from math import ceil
from typing import Any

from rich.console import Console
from rich.table import Table

from encdec_jax import text
from encdec_jax.compute import memory
from encdec_jax.compute.ledger import CONVENTION, Flops, Ledger, count
from encdec_jax.compute.serving import cache_bytes, decode, prefill
from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry


def print_count(run: RunConfig, console: Console) -> None:
    """Print parameters, FLOPs and bytes of a run: of an update, of inference, and of the whole run.

    Raises:
      UserError: as `count`.
    """
    ledger = count(run)
    console.print(_parameters(ledger))
    console.print(_flops(ledger))
    console.print(_serving(run))
    console.print(_training_bytes(run))
    console.print(_serving_bytes(run, ledger))
    console.print(_whole(run, ledger))
    console.print(CONVENTION, style="dim", highlight=False)


def count_json(run: RunConfig) -> dict[str, Any]:
    """The ledger of a run as plain data.

    Returns:
      'params': total, non_embedding, active and groups. 'flops' of one sequence, that is one window of the objective:
      'forward', 'train_step', what the train step leaves out ('recompute', 'padding'), 'prefill' of a source, and
      'decode' of the last target token; each mask, dense, and the same by groups and by streams. 'bytes': of training
      on one device and on each of the mesh, and by type the weights and one sequence's cache at inference. 'lengths' in
      tokens, of a row and at inference, and the shares of a row's that are 'held' by tokens, not padding.
      'run': rows of a batch, updates, tokens, and FLOPs of all updates.
      'convention': what counts.

    Raises:
      UserError: as `count`.
    """
    ledger = count(run)
    shape, row, total = geometry(run), ledger.row, ledger.train_flops
    n, (source, target) = shape.updates, shape.sequence
    batch = {"forward": ledger.forward, "train_step": total, "recompute": ledger.recompute, "padding": ledger.padding}
    flops = {name: _plain(part, ledger.rows * row.windows) for name, part in batch.items()}
    flops |= {name: _plain(part, 1) for name, part in _steps(run).items()}
    return {
        "params": {
            "total": ledger.params.total,
            "non_embedding": ledger.params.non_embedding,
            "active": ledger.params.active,
            "groups": dict(ledger.params.groups),
        },
        "flops": flops,
        "bytes": {
            "training": asdict(memory.training(run)),
            "per_device": asdict(memory.per_device(run)),
            "weights": {dtype: _weights(ledger, dtype) for dtype in memory.BYTES},
            "kv_cache": {dtype: asdict(cache_bytes(run.model, source, target, dtype)) for dtype in memory.BYTES},
        },
        "lengths": {
            "windows": row.windows,
            "source": row.source,
            "target": row.target,
            "scored": row.scored,
            "held": dict(zip(("source", "target", "scored"), row.held, strict=True)),
            "prefill": source,
            "decode": target,
        },
        "run": {
            "rows": ledger.rows,
            "updates": n,
            "tokens": shape.tokens,
            "train_flops": {"mask": n * total.mask, "dense": n * total.dense},
        },
        "convention": CONVENTION,
    }


def _steps(run: RunConfig) -> dict[str, Flops]:
    source, target = geometry(run).sequence
    return {"prefill": prefill(run.model, source), "decode": decode(run.model, source, target - 1, target)}


def _weights(ledger: Ledger, dtype: str) -> int:
    return ceil(ledger.params.total * memory.BYTES[dtype])


def _plain(flops: Flops, rows: int) -> dict[str, Any]:
    def sums(part: Flops) -> dict[str, float]:
        return {"mask": part.mask / rows, "dense": part.dense / rows}

    return {
        **sums(flops),
        "groups": {name: sums(part) for name, part in flops.by("group").items()},
        "streams": {name: sums(part) for name, part in flops.by("stream").items()},
    }


def _parameters(ledger: Ledger) -> Table:
    table = text.titled("Parameters", "group", "number", "share")
    params = ledger.params
    for group, n in params.groups.items():
        table.add_row(group, f"{n:,}", f"{n / params.total:.1%}")
    table.add_section()
    table.add_row("non-embedding", f"{params.non_embedding:,}", f"{params.non_embedding / params.total:.1%}")
    table.add_row("active", f"{params.active:,}", f"{params.active / params.total:.1%}")
    table.add_row("total", f"{params.total:,}", "100.0%", style="bold")
    return table


def _flops(ledger: Ledger) -> Table:
    row = ledger.row
    source = f"{row.source} source and " if row.source else ""
    title = f"FLOPs of an update: {ledger.rows} rows of {source}{row.target} target tokens, {row.scored} scored"
    table = text.titled(title, "", "forward, mask", "dense", "train step, mask", "dense", "share of mask")
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
    for name, apart in (("recomputed by remat", ledger.recompute), ("padding", ledger.padding)):
        if apart.entries:
            table.add_row(f"{name}, on top", "", "", f"{apart.mask:.4g}", f"{apart.dense:.4g}", "")
    return table


def _serving(run: RunConfig) -> Table:
    source, target = geometry(run).sequence
    title = f"FLOPs of inference, one sequence: a source of {source} tokens, the last of {target} target tokens"
    table = text.titled(title, "", "prefill, mask", "dense", "decode, mask", "dense")
    steps = list(_steps(run).values())
    nothing = Flops(())

    def line(name: str, parts: list[Flops], style: str = "") -> None:
        table.add_row(name, *(f"{n:.4g}" for part in parts for n in (part.mask, part.dense)), style=style)

    for prefix, split in (("", [s.by("group") for s in steps]), ("stream: ", [s.by("stream") for s in steps])):
        for name in dict.fromkeys(name for parts in split for name in parts):
            line(prefix + name, [parts.get(name, nothing) for parts in split])
        table.add_section()
    line("total", steps, "bold")
    return table


def _training_bytes(run: RunConfig) -> Table:
    whole, part = memory.training(run), memory.per_device(run)
    devices = run.mesh.size
    table = text.titled("Bytes of training", "", "on one device", *([f"on each of {devices}"] if devices > 1 else []))
    for name in ("weights", "gradients", "moments", "activations", "total"):
        label = "activations, estimated" if name == "activations" else name
        numbers = [getattr(held, name) for held in ((whole, part) if devices > 1 else (whole,))]
        table.add_row(label, *map(text.size, numbers), style="bold" if name == "total" else "")
    return table


def _serving_bytes(run: RunConfig, ledger: Ledger) -> Table:
    source, target = geometry(run).sequence
    title = f"Bytes of inference, one sequence: {source} source and {target} target tokens"
    table = text.titled(title, "", "weights", "KV cache, self", "KV cache, cross")
    for dtype in memory.BYTES:
        cache = cache_bytes(run.model, source, target, dtype)
        table.add_row(dtype, *map(text.size, (_weights(ledger, dtype), cache.own, cache.cross)))
    return table


def _whole(run: RunConfig, ledger: Ledger) -> Table:
    shape, total = geometry(run), ledger.train_flops
    n = shape.updates
    table = Table(title="The whole run", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("updates", f"{n:,}")
    table.add_row("tokens", f"{shape.tokens:,}")
    table.add_row("training FLOPs, mask", f"{n * total.mask:.4g}")
    table.add_row("training FLOPs, dense", f"{n * total.dense:.4g}")
    if run.budget_flops is not None:
        table.add_row("budget, FLOPs", f"{run.budget_flops:.4g}")
        table.add_row("distance from the budget", f"{n * total.mask / run.budget_flops - 1:+.2%}")
    return table

"""Grids of matched runs, and the papers' rules, as tables for people."""

from __future__ import annotations

from dataclasses import asdict

from rich import box
from rich.console import Console
from rich.table import Table

from encdec_jax.compute.grid import Cell, Grid
from encdec_jax.compute.quantities import KV_DTYPE
from encdec_jax.compute.rules import RULES

_TITLES = {
    "params": "params",
    "params_nonembed": "non-\nembed",
    "tokens": "tokens",
    "train_flops": "train\nFLOPs",
    "decode_flops": "decode\nFLOPs",
    "kv_bytes": "KV\nbytes",
}


def print_grid(grid: Grid, console: Console) -> None:
    """Print every cell: shape, all quantities, and below each its distance from the reference's in percent."""
    title = "Matched runs" if grid.rule is None else f"By rule {grid.rule.name}"
    title += "" if grid.budget is None else f", {grid.budget:g} training FLOPs"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("size and\nfamily", no_wrap=True)
    table.add_column("shape", no_wrap=True)
    for name, text in _TITLES.items():
        table.add_column(f"{text} =" if name in grid.equal else text, justify="right")
    table.add_column("updates", justify="right")
    for i, cell in enumerate(grid):
        reference = i == 0 or grid.cells[i - 1].size != cell.size
        if reference:
            table.add_section()
        table.add_row(*_row(cell, reference))
    console.print(table)
    notes = (
        f"= matched; percentages are against the first family of the size. Source {grid.source} and target"
        f" {grid.target} tokens, {grid.batch} windows an update. FLOPs count the attention that masks show; decode"
        f" FLOPs are of a sequence's target, KV bytes of all of its cache in {KV_DTYPE}."
    )
    console.print(notes, style="dim", highlight=False)
    if grid.batch != grid.asked:
        console.print(
            f"batch {grid.asked} asked, {grid.batch} used: halved until {grid.budget:g} training FLOPs pay at least"
            f" {grid.min_updates} updates, and whole ones come near enough to them",
            highlight=False,
        )
    if grid.rule is not None:
        claims = ", ".join(f"{name} {claim:.3g}" for name, claim in grid.rule.claims)
        console.print(f"{grid.rule.source}: {grid.rule.says}.", highlight=False)
        console.print(f"Claimed, of enc_dec over the decoder: {claims}.", highlight=False)


def print_rules(console: Console) -> None:
    """Print what `--rule` takes."""
    table = Table("rule", "says", "source", "sizes", title="Rules of the literature", title_justify="left")
    for rule in RULES.values():
        sizes = ", ".join(name for name, _ in rule.published.sizes) if rule.published else "by --widths"
        table.add_row(rule.name, rule.says, rule.source, sizes)
    table.add_row("exact", "solve for the quantity of --equal by the ledger", "encdec_jax.compute.shapes", "any")
    console.print(table)


def _row(cell: Cell, reference: bool) -> list[str]:
    values, apart = asdict(cell.values), asdict(cell.mismatches)
    decoder, encoder = cell.run.model.decoder, cell.run.model.encoder
    layers, d_ff = f"{decoder.n_layers}", f"{decoder.d_ff}"
    if encoder is not None:
        layers = f"{encoder.n_layers}+{layers}"
        d_ff = d_ff if encoder.d_ff == decoder.d_ff else f"{encoder.d_ff}+{d_ff}"
    written = [_short(values[name]) + ("" if reference else f"\n{_percent(apart[name])}") for name in _TITLES]
    label = f"{cell.name}\n{cell.family.label}" if reference else cell.family.label
    return [label, f"{layers} x {decoder.d_model}\nff {d_ff}", *written, f"{cell.updates:,}"]


def _short(value: float) -> str:
    """Three digits and a unit: 35.2M; from 1e15 on, a power of ten."""
    value = float(f"{value:.3g}")
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if unit <= value < 1e15:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}".replace("e+", "e")


def _percent(mismatch: float) -> str:
    """With two digits behind the point where it is small, so that a residual shows."""
    return f"{mismatch:+.2%}" if abs(mismatch) < 0.1 else f"{mismatch:+.0%}"

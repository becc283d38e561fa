"""A compiled step for people (tables) and for programs (one JSON object)."""

from __future__ import annotations

from dataclasses import asdict, astuple
from typing import Any

from rich.console import Console
from rich.table import Table

from encdec_jax import text
from encdec_jax.aot.compile import Compiled
from encdec_jax.aot.search import remedy
from encdec_jax.mesh import AXES

GIB = 2**30


def print_step(found: Compiled, console: Console) -> None:
    """Print what a compiled step needs, sends and computes on a device, and how long it takes at least."""
    model = found.run.model
    console.print(
        f"{_what(found)} ({found.topology.size} devices): {found.run.mesh}, {found.rows} rows,"
        f" {model.dtype}, remat {model.remat}, attention {model.attention}; compiled in {found.compile_s:.0f} s",
        highlight=False,
    )
    if found.memory is None or found.program is None:
        return
    console.print(_memory(found), _collectives(found), _compute(found), _time(found))


def print_ranking(ranked: list[Compiled], left: int, console: Console) -> None:
    """Print compiled steps as `rank` orders them, and how many were not compiled."""
    first = ranked[0]
    table = Table(title=f"{_what(first)}, {first.rows} rows", title_justify="left")
    for column in (*AXES, "remat", "GiB", "compute ms", "memory ms", "wires ms", "bound ms", "estimate ms"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in ranked:
        times = ["", "", "", f"{(one.needs - one.holds) / GIB:.2f} GiB over", ""]
        if one.fits and one.bound is not None:
            parts = (one.bound.compute, one.bound.memory, one.bound.collectives, one.bound.overlapped, one.seconds)
            times = ["-" if t is None else f"{1000 * t:.4g}" for t in parts]
        mesh = one.run.mesh
        axes = map(str, astuple(mesh))
        table.add_row(*axes, one.run.model.remat, f"{one.needs / GIB:.2f}", *times)
    console.print(table)
    if left:
        console.print(f"{left} further combinations were not compiled: estimates put them behind these (see --limit).")


def refusal(found: Compiled) -> str:
    """One line for a step that does not fit: by how much, and what would."""
    return (
        f"{found.step} does not fit {found.topology.name} with {found.run.mesh}: it needs"
        f" {found.needs / GIB:.2f} GiB a device of {found.holds / GIB:.2f}, {(found.needs - found.holds) / GIB:.2f}"
        f" too many; {remedy(found)}"
    )


def step_json(found: Compiled) -> dict[str, Any]:
    """A compiled step as plain data: bytes, FLOPs and seconds, all of one device."""
    program = found.program
    return {
        "step": found.step,
        "topology": {
            "name": found.topology.name,
            "devices": found.topology.size,
            "source": found.topology.device.source,
        },
        "mesh": asdict(found.run.mesh),
        "rows": found.rows,
        "remat": found.run.model.remat,
        "attention": found.run.model.attention,
        "compile_s": found.compile_s,
        "fits": found.fits,
        "bytes": {
            "needs": found.needs,
            "holds": found.holds,
            **({} if found.memory is None else asdict(found.memory)),
        },
        "collectives": [] if program is None else [asdict(one) for one in program.collectives],
        "flops": {
            "ledger_dense": found.counted.dense,
            "ledger_mask": found.counted.mask,
            "program": None if program is None else program.flops,
            "fused_kernels": None if program is None else program.kernels,
            "unknown_loops": None if program is None else program.unknown_loops,
            "compiler_loop_bodies_once": found.flops,
        },
        "mfu": found.mfu,
        "seconds": {
            "compiler": found.seconds,
            "bound": None
            if found.bound is None
            else {**asdict(found.bound), "overlapped": found.bound.overlapped, "serial": found.bound.serial},
        },
    }


def _what(found: Compiled) -> str:
    return f"{found.step} of {found.run.model.arch} on {found.topology.name}"


def _memory(found: Compiled) -> Table:
    memory = found.memory
    assert memory is not None
    table = text.titled("Memory of a device", "", "bytes", "GiB")
    rows = {
        "arguments": memory.arguments,
        "outputs": memory.outputs,
        "outputs in the place of arguments": -memory.aliased,
        "temporaries": memory.temporaries,
        "program": memory.code,
    }
    for name, size in rows.items():
        table.add_row(name, f"{size:,}", f"{size / GIB:.3f}")
    table.add_section()
    table.add_row("needed", f"{found.needs:,}", f"{found.needs / GIB:.3f}", style="bold")
    table.add_row("there are", f"{found.holds:,}", f"{found.holds / GIB:.3f}")
    table.add_row(
        "fits" if found.fits else "does not fit", f"{found.holds - found.needs:+,}", f"{found.needs / found.holds:.1%}"
    )
    return table


def _collectives(found: Compiled) -> Table:
    assert found.program is not None
    table = text.titled("Collectives of a step", "kind", "devices in each", "executed", "bytes", "sent by a device")
    for one in found.program.collectives:
        table.add_row(one.kind, str(one.group), f"{one.count:,}", f"{one.bytes:,}", f"{one.wire:,.0f}")
    return table


def _compute(found: Compiled) -> Table:
    program, ledger = found.program, found.counted
    assert program is not None
    table = text.titled("FLOPs of a device", "", "FLOPs", "of the ledger's dense")
    table.add_row("ledger, dense, with recomputation", f"{ledger.dense:.6g}", "1.0000")
    table.add_row("ledger, mask, with recomputation", f"{ledger.mask:.6g}", f"{ledger.mask / ledger.dense:.4f}")
    note = f", {program.kernels} fused kernels not included" if program.kernels else ""
    note += f", {program.unknown_loops} loops of unknown length counted once" if program.unknown_loops else ""
    if program.flops:
        table.add_row(
            f"matrix products in the compiled program, loops multiplied out{note}",
            f"{program.flops:.6g}",
            f"{program.flops / ledger.dense:.4f}",
        )
    if found.flops is not None:
        ratio = "" if found.run.model.scan else f"{found.flops / ledger.dense:.4f}"
        name = "compiler's own count" + (", which takes the body of a loop once" if found.run.model.scan else "")
        table.add_row(name, f"{found.flops:.6g}", ratio)
    return table


def _time(found: Compiled) -> Table:
    bound, device = found.bound, found.topology.device
    assert bound is not None
    table = text.titled("Seconds of a step", "", "s", "from")
    table.caption, table.caption_justify = device.source, "left"
    dtype = found.run.model.dtype
    table.add_row("compute", f"{bound.compute:.4g}", f"{device.peak[dtype]:.4g} FLOP/s in {dtype}")
    table.add_row("memory", f"{bound.memory:.4g}", f"{device.bandwidth:.4g} bytes/s")
    table.add_row("collectives", f"{bound.collectives:.4g}", f"{device.interconnect:.4g} bytes/s out of a device")
    table.add_section()
    table.add_row("bound, all at once", f"{bound.overlapped:.4g}", "", style="bold")
    table.add_row("collectives apart", f"{bound.serial:.4g}", "")
    if found.seconds is not None:
        note = "cycles of its instructions, summed; without collectives; fused kernels at the peak"
        table.add_row("compiler's estimate", f"{found.seconds:.4g}", note)
    if found.mfu is not None and found.step == "train":
        beside, apart = found.mfu
        note = "collectives apart, to all beside; recomputation not counted"
        table.add_row("predicted share of the peak (MFU)", f"{apart:.3f} to {beside:.3f}", note)
    return table

"""docs/ladder.md from configs/ladder.py; what each compile said is kept in runs/ladder.

The page is written again behind every compile. Rows that were not compiled anew stay as they were on it, marked.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from configs.ladder import LENGTHS, RUNGS, TOKENS, rung
from encdec_jax.aot.bounds import held
from encdec_jax.aot.compile import compile_step
from encdec_jax.aot.search import candidates
from encdec_jax.aot.steps import lower
from encdec_jax.aot.topology import Topology, devices, topology
from encdec_jax.compute.quantities import quantities
from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.files import atomic_write, read_json, runs_root, write_json
from encdec_jax.model.choice import resolve
from encdec_jax.text import amount
from encdec_jax.train.config import MeshConfig

COMPILED = tuple(RUNGS)[list(RUNGS).index("150m") :]
TOPOLOGIES = ("v5e:16x16", "v5p:8x8x8")
FUSED = ("150m", ("causal_lm", "prefix_lm", "enc_dec-1/2"), "v5e:16x16")  # where plain attention stands beside splash
READER = 3  # raised when what is read of a compiled program changes; 2 left fused kernels out of the estimate
STALE = "†"
COLUMNS = 13  # behind rung and family
TRIES = 3  # of meshes, the most promising first, until one fits
PAGE = Path("docs/ladder.md")
SAVES = "## What fused attention saves"


@dataclass(frozen=True)
class Said:
    """What a compiler said of a train step; bytes are of one device."""

    mesh: tuple[int, int, int, int]
    remat: str
    attention: str
    rows: int
    arguments: int
    temporaries: int
    needs: int
    estimated: float
    holds: int
    estimate_s: float | None
    wire: float
    wire_s: float
    bound_s: float
    mfu: tuple[float, float] | None


Place = tuple[tuple[str, str], str]  # a rung and its family, and where it is compiled for


def main() -> int:
    ladder = {(name, family): run for name in RUNGS for family, run in rung(name).items()}
    due = [(key, run, place) for key, run in ladder.items() if key[0] in COMPILED for place in TOPOLOGIES]
    page = PAGE.read_text() if PAGE.exists() else ""
    order = [(key, place) for key, _, place in due]
    kept, saved = stale(page), page.partition(f"{SAVES}\n")[2].splitlines()
    found: dict[Place, Said | None] = {}

    def write(saved: list[str]) -> None:
        rows = {where: cells(found[where]) if where in found else kept.get(where, [STALE] * COLUMNS) for where in order}
        lines = [*head(len(found) < len(order)), *counts(ladder), *devices_of(rows), *unstaged(), "", SAVES, *saved]
        atomic_write(PAGE, "\n".join(lines) + "\n")

    for i, (key, run, place) in enumerate(due, 1):
        write(saved)
        found[key, place] = fitting(run, place)
        print(f"{i}/{len(due)} {'-'.join(key)} on {place}: {found[key, place]}", file=sys.stderr, flush=True)
    beside = [
        (run, said, said_of(settled(run, said, "plain"), place))
        for (name, family), run, place in due
        if (name, place) == (FUSED[0], FUSED[2]) and family in FUSED[1] and (said := found[(name, family), place])
    ]
    write(fused(beside))
    print(f"wrote {PAGE}")
    return 0


def stale(page: str) -> dict[Place, list[str]]:
    """The rows of a page's compilations, in the columns of today's; what was read otherwise then is marked."""
    found: dict[Place, list[str]] = {}
    place = ""
    for line in page.splitlines():
        if line.startswith("## "):
            place = next((one for one in TOPOLOGIES if f"on {one}:" in line), "")
        name, *said = (cell.strip() for cell in line.strip("| ").split("|"))
        if place and name in COMPILED:
            found[(name, said[0]), place] = [*said[1:9], *[STALE] * (COLUMNS - 8)]  # up to what the device holds
    return found


def fitting(run: RunConfig, place: str) -> Said | None:
    """The first of the most promising meshes and remat policies that compiles and fits; None if none does."""
    run = replace(run, model=resolve(run.model, topology(place).platform))
    for candidate in candidates(run, topology(place), "train")[:TRIES]:
        said = said_of(candidate, place)
        if said is not None and said.needs <= said.holds:
            return said
    return None


def settled(run: RunConfig, said: Said, attention: str) -> RunConfig:
    """The run as it was compiled, with another attention."""
    mesh = MeshConfig(*said.mesh)
    return replace(run, mesh=mesh, model=replace(run.model, remat=said.remat, attention=attention))


def said_of(run: RunConfig, place: str) -> Said | None:
    """What the compiler says, or said of the same program; None where it gave up for want of memory."""
    there = topology(place)
    program = lower(run, "train", devices(there)).as_text()
    versions = [importlib.metadata.version(name) for name in ("jax", "libtpu")]
    text = json.dumps([program, place, versions, READER])
    path = runs_root() / "ladder" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    if not path.exists():
        write_json(path, compiled(run, there))
    said = read_json(path)
    if said is None:
        return None
    estimated = held(run, "train", geometry(run).sequence)
    return Said(
        **{**said, "mesh": tuple(said["mesh"]), "mfu": said["mfu"] and tuple(said["mfu"]), "estimated": estimated}
    )


def compiled(run: RunConfig, there: Topology) -> dict[str, object] | None:
    done = compile_step(run, there, devices(there))
    if done.memory is None or done.bound is None or done.program is None:
        return None
    return {
        "mesh": list(astuple(run.mesh)),
        "remat": run.model.remat,
        "attention": run.model.attention,
        "rows": done.rows,
        "arguments": done.memory.arguments,
        "temporaries": done.memory.temporaries,
        "needs": done.needs,
        "holds": done.holds,
        "estimate_s": done.seconds,
        "wire": sum(one.wire for one in done.program.collectives),
        "wire_s": done.bound.collectives,
        "bound_s": done.bound.overlapped,
        "mfu": done.mfu,
    }


def head(marked: bool) -> list[str]:
    """What the page is."""
    lines = [
        "# The ladder",
        "",
        "Written by `tools/ladder` from `configs/ladder.py`; the numbers are the ledger's and the compiler's.",
        "",
        "On every rung all families have the same non-embedding parameters and spend the same training FLOPs,",
        f"attention counted as its mask requires; the causal LM trains on {TOKENS} tokens a parameter. A window is",
        f"{LENGTHS[0]:,} tokens of source and {LENGTHS[1]:,} of target. A mismatch is the distance from the causal LM.",
    ]
    if marked:
        lines += [
            "",
            f"**Rows marked {STALE} are of earlier programs.** Without remat these kept the float32 of norms and three",
            "arrays of d_ff more, so that temporaries were up to twice as large; with remat they were up to 8 % larger",
            "in the one row compiled anew. Meshes were chosen as if nothing waited for the wires of 'tensor'. What was",
            "said of their time left fused kernels out, and is left out here. `tools/ladder` compiles what is missing.",
        ]
    return lines


def counts(ladder: dict[tuple[str, str], RunConfig]) -> list[str]:
    """Every rung's shapes and counts."""
    columns = (
        "rung", "family", "d_model", "layers (enc + dec)", "d_ff", "parameters", "non-embedding", "mismatch",
        "training FLOPs", "mismatch", "tokens", "batch, tokens", "updates", "KV cache, bytes",
        "decode FLOPs a target token",
    )  # fmt: skip
    lines = ["", "## Counts", "", *table(columns)]
    first = None
    for (name, family), run in ladder.items():
        values = quantities(run, *LENGTHS)
        first = values if family == "causal_lm" or first is None else first
        off = values.against(first)
        encoder, decoder = run.model.encoder, run.model.decoder
        layers = f"{encoder.n_layers} + {decoder.n_layers}" if encoder else str(decoder.n_layers)
        d_ff = {stack.d_ff for stack in (encoder, decoder) if stack}
        shape = geometry(run)
        lines += row(
            name, family, decoder.d_model, layers, ", ".join(map(str, sorted(d_ff))), amount(values.params),
            amount(values.params_nonembed), f"{off.params_nonembed:+.2%}", f"{values.train_flops:.3g}",
            f"{off.train_flops:+.2%}", amount(run.train.tokens), amount(shape.update_tokens),
            f"{shape.updates:,}", amount(values.kv_bytes), f"{values.decode_flops / LENGTHS[1]:.3g}",
        )  # fmt: skip
    return lines


def devices_of(rows: dict[Place, list[str]]) -> list[str]:
    """What the large rungs need on each topology; rows in the order of the ladder."""
    lines = []
    for place in TOPOLOGIES:
        there = topology(place)
        lines += [
            "",
            f"## One update on {place}: {there.size} devices",
            "",
            "The train step, compiled for these devices without one. Of one device: 'needs' is arguments, temporaries,",
            "outputs and code at once; 'estimate' the sum of the compiler's cycle estimates, loops multiplied out,",
            "with fused attention, for which it gives none, at the peak; 'wire' what it sends to others in an update,",
            "and the time of that over all its links; 'bound' the slowest of arithmetic, memory and wires by the",
            "datasheet, if all three go on together. 'MFU' is the share of the peak that the model's FLOPs,",
            "recomputation not counted, are predicted to take: from all wires behind the estimate to all beside it.",
            "No device has measured it.",
            "",
            *table(
                ("rung", "family", "mesh (data, fsdp, tensor, sequence)", "remat", "rows", "arguments", "temporaries",
                 "needs", "ledger's estimate", "of", "estimate, s", "wire", "wire, s", "bound, s", "MFU")
            ),
        ]  # fmt: skip
        for (key, where), said in rows.items():
            lines += row(*key, *said) if where == place else []
    return lines


def unstaged() -> list[str]:
    """Why there are no pipeline stages, and how far that carries."""
    lines = [
        "",
        "## Without pipeline stages",
        "",
        "Stages would divide layers over devices. They idle at both ends of an update, and every architecture here",
        "would need a second form: two streams, sources read layer by layer, weights shared in depth. They pay where",
        "the wires of 'fsdp' do not hide behind arithmetic. It sends 6 bytes a parameter and update (bfloat16 weights",
        "gathered forward and backward, gradients scattered) and computes 6 FLOPs a parameter and token: a device",
        "needs as many tokens an update as its peak is over its interconnect, whatever the size of the model.",
        "",
        *table(
            ("devices", "tokens needed on each", "tokens that 8b has on each", "devices that its batch would serve")
        ),
    ]
    batch = geometry(next(iter(rung("8b").values()))).update_tokens
    for there in map(topology, TOPOLOGIES):
        needed = there.device.peak["bfloat16"] / there.device.interconnect
        lines += row(there.name, f"{needed:,.0f}", f"{batch / there.size:,.0f}", f"{batch / needed:,.0f}")
    return [
        *lines,
        "",
        "Memory is no reason either: up to 8B the compiler fits every family on these slices, on v5e with remat and",
        "little room. Larger models, and fewer tokens on each device, were not compiled.",
    ]


def cells(said: Said | None) -> list[str]:
    """What stands behind rung and family."""
    if said is None:
        return ["does not fit", *[""] * (COLUMNS - 1)]
    return [
        ", ".join(map(str, said.mesh)), said.remat, str(said.rows), gigabytes(said.arguments),
        gigabytes(said.temporaries), gigabytes(said.needs), gigabytes(said.estimated), gigabytes(said.holds),
        "-" if said.estimate_s is None else f"{said.estimate_s:.3g}",
        gigabytes(said.wire), f"{said.wire_s:.3g}", f"{said.bound_s:.3g}",
        "-" if said.mfu is None else f"{said.mfu[1]:.2f} to {said.mfu[0]:.2f}",
    ]  # fmt: skip


def fused(beside: list[tuple[RunConfig, Said, Said | None]]) -> list[str]:
    """What fused attention saves."""
    lines = [
        "",
        f"The same step on {FUSED[2]}, with the same mesh and remat; splash's kernels at the peak, the least.",
        "",
    ]
    lines += table(("rung", "family", "temporaries, plain", "splash", "plain over splash", "estimate, plain", "splash"))
    for run, splash, plain in beside:
        family = run.model.arch
        if plain is None:
            lines += row(FUSED[0], family, "does not fit", gigabytes(splash.temporaries), "", "", "")
            continue
        times = [f"{s.estimate_s:.3g} s" if s.estimate_s else "-" for s in (plain, splash)]
        ratio = f"{plain.temporaries / splash.temporaries:.2f}"
        lines += row(FUSED[0], family, gigabytes(plain.temporaries), gigabytes(splash.temporaries), ratio, *times)
    return lines


def table(columns: tuple[str, ...]) -> list[str]:
    return [*row(*columns), *row(*["---"] * len(columns))]


def row(*cells: object) -> Iterator[str]:
    yield "| " + " | ".join(map(str, cells)) + " |"


def gigabytes(n: float) -> str:
    return f"{n / 2**30:.2f} GiB"


if __name__ == "__main__":
    sys.exit(main())

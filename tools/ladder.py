"""docs/ladder.md from configs/ladder.py; what each compile said is kept in runs/ladder."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

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

# Of one slice, and few: a compile takes 1 to 3 minutes of a core, and every change of the model makes all rows old.
FAMILIES = ("causal_lm", "prefix_lm", "enc_dec-1/2")
COMPILED = {
    "v5e:16x16": (*((size, family) for size in ("150m", "1b") for family in FAMILIES), ("8b", "causal_lm")),
    "v5p:8x8x8": (*(("1b", family) for family in FAMILIES), ("8b", "causal_lm")),
}
FUSED = (("1b", "causal_lm"), "v5e:16x16")  # where plain attention stands beside splash
SLICES = ("v5e:16x16", "v5p:8x8x8")  # whose wires are held against their peaks
READER = 3  # raised when what is read of a compiled program changes; 2 left fused kernels out of the estimate
TRIES = 3  # of meshes, the most promising first, until one fits
PAGE = Path("docs/ladder.md")


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
    found: dict[Place, Said | None] = {}
    for place, keys in COMPILED.items():
        for key in keys:
            found[key, place] = fitting(ladder[key], place)
            print(f"{'-'.join(key)} on {place}: {found[key, place]}", file=sys.stderr, flush=True)
    beside = {
        key: (said, asked(plain(ladder[key], said, place), place)["needs"])
        for (key, place), said in found.items()
        if (key, place) == FUSED and said is not None
    }
    lines = [*HEAD, *counts(ladder), *devices_of(found), *unstaged(), *fused(beside)]
    atomic_write(PAGE, "\n".join(lines) + "\n")
    print(f"wrote {PAGE}")
    return 0


def fitting(run: RunConfig, place: str) -> Said | None:
    """The first of the most promising meshes and remat policies that compiles and fits; None if none does."""
    run = replace(run, model=resolve(run.model, topology(place).platform))
    for candidate in candidates(run, topology(place), "train")[:TRIES]:
        said = said_of(candidate, place)
        if said is not None and said.needs <= said.holds:
            return said
    return None


def plain(run: RunConfig, said: Said, place: str) -> RunConfig:
    """The run as it was compiled, but for its attention."""
    model = resolve(run.model, topology(place).platform)
    return replace(run, mesh=MeshConfig(*said.mesh), model=replace(model, remat=said.remat, attention="plain"))


def said_of(run: RunConfig, place: str) -> Said | None:
    """What the compiler says; None where it gave up for want of memory."""
    said = asked(run, place)
    if "mesh" not in said:
        return None
    estimated = held(run, "train", geometry(run).sequence)
    return Said(
        **{**said, "mesh": tuple(said["mesh"]), "mfu": said["mfu"] and tuple(said["mfu"]), "estimated": estimated}
    )


def asked(run: RunConfig, place: str) -> dict[str, Any]:
    """What the compiler says, or said of the same program; what it would need where it gave up."""
    there = topology(place)
    program = lower(run, "train", devices(there)).as_text()
    versions = [importlib.metadata.version(name) for name in ("jax", "libtpu")]
    text = json.dumps([program, place, versions, READER])
    path = runs_root() / "ladder" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    if not path.exists():
        write_json(path, compiled(run, there))
    said: dict[str, Any] = read_json(path)
    return said


def compiled(run: RunConfig, there: Topology) -> dict[str, Any]:
    done = compile_step(run, there, devices(there))
    if done.memory is None or done.bound is None or done.program is None:
        return {"needs": done.needs}
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


HEAD = (
    "# The ladder",
    "",
    "Written by `tools/ladder` from `configs/ladder.py`; the numbers are the ledger's and the compiler's.",
    "",
    "On every rung all families have the same non-embedding parameters and spend the same training FLOPs,",
    f"attention counted as its mask requires; the causal LM trains on {TOKENS} tokens a parameter. A window is",
    f"{LENGTHS[0]:,} tokens of source and {LENGTHS[1]:,} of target. A mismatch is the distance from the causal LM.",
)


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


def devices_of(found: dict[Place, Said | None]) -> list[str]:
    """What the compiled rungs need on each topology."""
    lines = []
    for place in COMPILED:
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
            "No device has measured it. All rows are of the present program and of meshes as a search orders them;",
            "those of other rungs, families and slices that stood here were of earlier ones.",
            "",
            *table(
                ("rung", "family", "mesh (data, fsdp, tensor, sequence)", "remat", "rows", "arguments", "temporaries",
                 "needs", "ledger's estimate", "of", "estimate, s", "wire", "wire, s", "bound, s", "MFU")
            ),
        ]  # fmt: skip
        for (key, where), said in found.items():
            lines += row(*key, *cells(said)) if where == place else []
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
    for there in map(topology, SLICES):
        needed = there.device.peak["bfloat16"] / there.device.interconnect
        lines += row(there.name, f"{needed:,.0f}", f"{batch / there.size:,.0f}", f"{batch / needed:,.0f}")
    return [
        *lines,
        "",
        "Memory is no reason either: the compiler fits the steps of 8B above, with remat and little room. Larger",
        "models, and fewer tokens on each device, were not compiled.",
    ]


def cells(said: Said | None) -> list[str]:
    """What stands behind rung and family."""
    if said is None:
        return ["does not fit", *[""] * 12]
    return [
        ", ".join(map(str, said.mesh)), said.remat, str(said.rows), gigabytes(said.arguments),
        gigabytes(said.temporaries), gigabytes(said.needs), gigabytes(said.estimated), gigabytes(said.holds),
        "-" if said.estimate_s is None else f"{said.estimate_s:.3g}",
        gigabytes(said.wire), f"{said.wire_s:.3g}", f"{said.bound_s:.3g}",
        "-" if said.mfu is None else f"{said.mfu[1]:.2f} to {said.mfu[0]:.2f}",
    ]  # fmt: skip


def fused(beside: dict[tuple[str, str], tuple[Said, int]]) -> list[str]:
    """What fused attention saves."""
    lines = [
        "",
        "## What fused attention saves",
        "",
        f"The same step on {FUSED[1]}, with the same mesh and remat. Where the compiler gave up for want of memory,",
        "it says what the temporaries alone would have been.",
        "",
        *table(("rung", "family", "needs, splash", "needs, plain", "plain over splash", "of")),
    ]
    for key, (splash, needs) in beside.items():
        ratio = f"{needs / splash.needs:.2f}"
        lines += row(*key, gigabytes(splash.needs), gigabytes(needs), ratio, gigabytes(splash.holds))
    return lines


def table(columns: tuple[str, ...]) -> list[str]:
    return [*row(*columns), *row(*["---"] * len(columns))]


def row(*cells: object) -> Iterator[str]:
    yield "| " + " | ".join(map(str, cells)) + " |"


def gigabytes(n: float) -> str:
    return f"{n / 2**30:.2f} GiB"


if __name__ == "__main__":
    sys.exit(main())

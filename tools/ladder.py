"""docs/ladder.md from configs/ladder.py; what each compile said is kept in runs/ladder."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from configs.ladder import LENGTHS, RUNGS, TOKENS, rung
from encdec_jax.aot.compile import compile_step
from encdec_jax.aot.estimate import held
from encdec_jax.aot.search import candidates
from encdec_jax.aot.topology import Topology, devices, topology
from encdec_jax.compute.quantities import quantities
from encdec_jax.config import RunConfig, to_dict
from encdec_jax.data.layout import lengths, updates, window_tokens
from encdec_jax.files import atomic_write, read_json, runs_root, write_json
from encdec_jax.model.choice import resolve
from encdec_jax.text import amount

COMPILED = tuple(RUNGS)[list(RUNGS).index("150m") :]
TOPOLOGIES = ("v5e:16x16", "v5p:8x8x8")
FUSED = ("150m", ("causal_lm", "prefix_lm", "enc_dec-1/2"), "v5e:16x16")  # where plain attention stands beside splash
TRIES = 3  # of meshes, the most promising first, until one fits
PAGE = Path("docs/ladder.md")


@dataclass(frozen=True)
class Said:
    """What a compiler said of a train step; bytes are of one device."""

    mesh: tuple[int, int, int]
    remat: str
    attention: str
    rows: int
    arguments: int
    temporaries: int
    needs: int
    estimated: float
    holds: int
    estimate_s: float | None
    bound_s: float


def main() -> int:
    ladder = {(name, family): run for name in RUNGS for family, run in rung(name).items()}
    due = [(key, run, place) for key, run in ladder.items() if key[0] in COMPILED for place in TOPOLOGIES]
    plain = [
        (run, place, said)
        for (name, family), run, place in due
        if (name, place) == (FUSED[0], FUSED[2]) and family in FUSED[1] and (said := fitting(run, place))
    ]
    found = {}
    for i, (key, run, place) in enumerate(due, 1):
        found[key, place] = fitting(run, place)
        print(f"{i}/{len(due)} {'-'.join(key)} on {place}: {found[key, place]}", file=sys.stderr, flush=True)
    beside = [(run, place, said, said_of(settled(run, said, "plain"), place)) for run, place, said in plain]
    atomic_write(PAGE, "\n".join([*head(), *counts(ladder), *devices_of(found), *fused(beside)]) + "\n")
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


def settled(run: RunConfig, said: Said, attention: str) -> RunConfig:
    """The run as it was compiled, with another attention."""
    data, fsdp, tensor = said.mesh
    mesh = replace(run.mesh, data=data, fsdp=fsdp, tensor=tensor)
    return replace(run, mesh=mesh, model=replace(run.model, remat=said.remat, attention=attention))


def said_of(run: RunConfig, place: str) -> Said | None:
    """What the compiler says, or said; None where it gave up for want of memory."""
    versions = [importlib.metadata.version(name) for name in ("jax", "libtpu")]
    text = json.dumps([to_dict(run), place, versions], sort_keys=True)
    path = runs_root() / "ladder" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    if not path.exists():
        there = topology(place)
        write_json(path, compiled(run, there))
    said = read_json(path)
    return None if said is None else Said(**{**said, "mesh": tuple(said["mesh"])})


def compiled(run: RunConfig, there: Topology) -> dict[str, object] | None:
    done = compile_step(run, there, devices(there))
    if done.memory is None or done.bound is None:
        return None
    return {
        "mesh": [run.mesh.data, run.mesh.fsdp, run.mesh.tensor],
        "remat": run.model.remat,
        "attention": run.model.attention,
        "rows": done.rows,
        "arguments": done.memory.arguments,
        "temporaries": done.memory.temporaries,
        "needs": done.needs,
        "estimated": held(run, "train", lengths(run)),
        "holds": done.holds,
        "estimate_s": done.seconds,
        "bound_s": done.bound.overlapped,
    }


def head() -> list[str]:
    """What the page is."""
    return [
        "# The ladder",
        "",
        "Written by `tools/ladder` from `configs/ladder.py`; the numbers are the ledger's and the compiler's.",
        "",
        "On every rung all families have the same non-embedding parameters and spend the same training FLOPs,",
        f"attention counted as its mask requires; the causal LM trains on {TOKENS} tokens a parameter. A window is",
        f"{LENGTHS[0]:,} tokens of source and {LENGTHS[1]:,} of target. A mismatch is the distance from the causal LM.",
    ]


def counts(ladder: dict[tuple[str, str], RunConfig]) -> list[str]:
    """Every rung's shapes and counts."""
    columns = (
        "rung", "family", "d_model", "layers (enc + dec)", "d_ff", "parameters", "non-embedding", "mismatch",
        "training FLOPs", "mismatch", "tokens", "batch, tokens", "updates", "KV cache, bytes", "decode FLOPs a token",
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
        window = window_tokens(run.data, run.objective)
        lines += row(
            name, family, decoder.d_model, layers, ", ".join(map(str, sorted(d_ff))), amount(values.params),
            amount(values.params_nonembed), f"{off.params_nonembed:+.2%}", f"{values.train_flops:.3g}",
            f"{off.train_flops:+.2%}", amount(run.train.tokens), amount(run.train.batch_size * window),
            f"{updates(run.train, window):,}", amount(values.kv_bytes), f"{values.decode_flops:.3g}",
        )  # fmt: skip
    return lines


def devices_of(found: dict[tuple[tuple[str, str], str], Said | None]) -> list[str]:
    """What the large rungs need on each topology."""
    lines = []
    for place in TOPOLOGIES:
        there = topology(place)
        lines += [
            "",
            f"## One update on {place}: {there.size} devices",
            "",
            "The train step, compiled for these devices without one. Of one device: 'needs' is arguments, temporaries,",
            "outputs and code at once; 'estimate' the sum of the compiler's cycle estimates, loops multiplied out;",
            "'bound' the slowest of arithmetic, memory and wires by the datasheet, if all three go on together.",
            "",
            *table(
                ("rung", "family", "mesh (data, fsdp, tensor)", "remat", "rows", "arguments", "temporaries", "needs",
                 "ledger's estimate", "of", "estimate, s", "bound, s")
            ),
        ]  # fmt: skip
        for (name, family), run_place in found:
            if run_place != place:
                continue
            said = found[(name, family), place]
            if said is None:
                lines += row(name, family, *["does not fit"], *[""] * 9)
                continue
            lines += row(
                name, family, ", ".join(map(str, said.mesh)), said.remat, said.rows, gigabytes(said.arguments),
                gigabytes(said.temporaries), gigabytes(said.needs), gigabytes(said.estimated),
                gigabytes(said.holds),
                "-" if said.estimate_s is None else f"{said.estimate_s:.3g}", f"{said.bound_s:.3g}",
            )  # fmt: skip
    return lines


def fused(beside: list[tuple[RunConfig, str, Said, Said | None]]) -> list[str]:
    """What fused attention saves."""
    lines = ["", "## What fused attention saves", "", f"The same step on {FUSED[2]}, with the same mesh and remat.", ""]
    lines += table(("rung", "family", "temporaries, plain", "splash", "plain over splash", "estimate, plain", "splash"))
    for run, _, splash, plain in beside:
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

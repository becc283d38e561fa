"""The accelerator that is here: train steps, decoding and attention, measured beside what is predicted of them.

    tools/bench device                             on its own Python: [gpu] or [tpu] is to be installed there
    python tools/benches/device.py train:150m-causal_lm:cudnn decode:150m-enc_dec-1/2:32 --out FOLDER --seconds 280

A cell is measured in a process of its own, alone on the device, so that its peak of memory is its own and one that
fails costs no other. All programs are compiled before, in one process, which leaves them in the compilation cache.

Cells: matmul, of the sides `SIDE`; train:RUN:ATTENTION, an update of a run of configs/ladder.py, at the rows of `ROWS`
and the remat that `encdec compile --search` would try first; decode:RUN:ROWS, prefill of 1,024 tokens and greedy
decoding of `STEPS` more; attention:ATTENTION, a layer's alone, with its gradient. Predicted are bytes and seconds by
the ledger (the roofline), and by the compiler that has the device.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

sys.path.append(str(Path(__file__).parents[2]))  # configs stands beside the package

from configs.ladder import LENGTHS, rung
from encdec_jax.aot.bounds import counted, estimated, held
from encdec_jax.aot.compile import told
from encdec_jax.aot.search import candidates
from encdec_jax.aot.topology import Topology, topology
from encdec_jax.compute import serving
from encdec_jax.compute.ledger import parameters
from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.data.packing import Batch
from encdec_jax.infer.kv_cache import greedy, prefill
from encdec_jax.model import kernels
from encdec_jax.model.choice import WANTED, resolve
from encdec_jax.model.edge import Reads
from encdec_jax.model.model import graph, initial
from encdec_jax.model.sees import Causal
from encdec_jax.model.softmax import attention
from encdec_jax.model.streams import WholeStream, stream, streams
from encdec_jax.train.schedule import hyper
from encdec_jax.train.sharding import put_same, replicated, rows_sharding
from encdec_jax.train.step import State
from encdec_jax.train.trainer import Trainer

KINDS = {"H100": "h100:1", "A100": "a100:1", "TPU v5 lite": "v5e:1x1", "TPU v5": "v5p:1x1x1", "TPU v6": "v6e:1x1"}
SIDE, ROWS, STEPS, ROUNDS = 8192, {"150m": 16, "400m": 16, "1b": 8}, 128, 3
LAYER = (8, 2048, 8, 128)  # rows, tokens, heads, head_dim of `attention`
FAMILIES = ("causal_lm", "prefix_lm", "enc_dec-1/2")
LEAST = 0.5  # seconds of a round
Made = tuple[dict[str, Any], Callable[[], dict[str, Any]]]  # what is predicted, and what measures


def cells(fused: str) -> list[str]:
    """The most telling first."""
    of = [f"train:{size}-{family}" for size in ("150m", "1b", "400m") for family in FAMILIES]
    decoded = [f"decode:150m-{family}:{rows}" for rows in (32, 1) for family in FAMILIES]
    layers = [
        f"attention:{kernel}"
        for kernel in ("plain", fused, *(("cudnn_packed", "cudnn_mask") if fused == "cudnn" else ()))
    ]
    alone = [f"{cell}:plain" for cell in of]
    return ["matmul", *(f"{cell}:{fused}" for cell in of[:5]), *alone[:3], *decoded, *layers, *(
        f"{cell}:{fused}" for cell in of[5:]
    ), *alone[3:]]  # fmt: skip


def make(cell: str, there: Topology) -> Made:
    """Compile what a cell runs."""
    kind, _, rest = cell.partition(":")
    name, _, last = rest.rpartition(":")
    if kind == "matmul":
        return matmul()
    if kind == "attention":
        return layer(last)
    size, _, family = name.partition("-")
    run = rung(size)[family]
    return update(run, last, ROWS.get(size, 1), there) if kind == "train" else decoding(run, int(last), there)


def timed(call: Callable[[], Any]) -> float:
    """Seconds of a call among many that are queued: the median of rounds of at least `LEAST`, behind two that warm."""
    jax.block_until_ready([call(), call()][-1])
    start = time.perf_counter()
    jax.block_until_ready(call())
    number = max(2, round(LEAST / (time.perf_counter() - start)))
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(number):
            last = call()
        jax.block_until_ready(last)
        rounds.append((time.perf_counter() - start) / number)
    return statistics.median(rounds)


def matmul() -> Made:
    one = jax.random.normal(jax.random.key(0), (SIDE, SIDE), jnp.bfloat16)
    product = jax.jit(jnp.matmul).lower(one, one).compile()
    return {}, lambda: {"flops_per_s": 2 * SIDE**3 / timed(lambda: product(one, one))}


def layer(kernel: str) -> Made:
    """Attention alone, causal; by cuDNN of whole rows, as of packed ones (`_packed`), and by a mask alone (`_mask`)."""
    rows, tokens, heads, dim = LAYER
    q, k, v, g = (jax.random.normal(jax.random.key(i), LAYER, jnp.bfloat16) for i in range(4))
    row = stream(np.zeros((rows, tokens), np.int32))
    reads = Reads("target", "target", "own", Causal(), "none")
    said = kernels.told(reads, *[WholeStream(*row) if kernel == "cudnn" else row] * 2)
    shown = jnp.asarray(reads.sees.mask(row, row))
    name, _, way = kernel.partition("_")

    def mixed(q: jax.Array, k: jax.Array, v: jax.Array, shown: jax.Array) -> jax.Array:
        if name != "cudnn" or way == "mask":
            return attention(q, k, v, shown, name)
        return attention(q, k, v, said if said.mask is None else said._replace(mask=shown), name)

    def both(q: jax.Array, k: jax.Array, v: jax.Array, g: jax.Array, shown: jax.Array) -> Any:
        return jax.vjp(partial(mixed, shown=shown), q, k, v)[1](g)

    forward = jax.jit(mixed).lower(q, k, v, shown).compile()
    gradient = jax.jit(both).lower(q, k, v, g, shown).compile()
    flops = 4 * rows * heads * dim * tokens * (tokens + 1) / 2

    def measure() -> dict[str, Any]:
        first, second = timed(lambda: forward(q, k, v, shown)), timed(lambda: gradient(q, k, v, g, shown))
        return {"forward_s": first, "gradient_s": second, "flops_per_s": 3.5 * flops / second}

    return {"flops_forward": flops}, measure


def update(run: RunConfig, kernel: str, rows: int, there: Topology) -> Made:
    """The jitted, donated update on a mesh of one device."""
    windows = rows * geometry(run).layout.windows
    run = replace(run, train=replace(run.train, batch_size=windows), model=replace(run.model, attention=kernel))
    run = candidates(run, there, "train")[0]
    trainer, start = Trainer(run), time.perf_counter()
    executable = trainer.lower().compile()
    took, shape = time.perf_counter() - start, geometry(run)
    drawn = jax.jit(partial(initial, trainer.run.model)).lower(jax.random.key(0)).compile()
    ledger = counted(run, "train", shape.sequence)
    predicted = {
        "remat": run.model.remat,
        "rows": shape.rows,
        "params": parameters(run.model).total,
        "compile_s": took,
        "ledger_bytes": held(run, "train", shape.sequence),
        "ledger_s": estimated(there.device, run, "train", shape.sequence).overlapped,
        "model_flops": ledger.model,
        "peak_flops_per_s": there.device.peak[run.model.dtype],
    }
    try:
        said = told(executable, run, there, "train", took)
        predicted |= {"compiler_bytes": said.needs, "compiler_s": said.seconds, "bound_s": said.bound.overlapped}
    except Exception:  # what can't be read of a program is told, and the program runs all the same
        predicted["unread"] = traceback.format_exc(limit=-3)

    def measure() -> dict[str, Any]:
        random, row = np.random.default_rng(0), shape.layout
        ids = random.integers(3, run.model.vocab_size, (shape.rows, row.source + row.target)).astype(np.int32)
        cut = row.source or row.target // 2
        source, target = streams(run.model.choices, ids[:, :cut], ids[:, cut:])
        labels = random.integers(3, run.model.vocab_size, (shape.rows, row.scored)).astype(np.int32)
        batch = Batch(source, target, labels, np.ones(labels.shape, np.float32))
        placed = put_same(batch, rows_sharding(trainer.mesh))
        schedule = jax.device_put(jax.tree.map(jnp.asarray, hyper(run.optim, 100, 0)), replicated(trainer.mesh))
        empty = trainer.abstract
        params = jax.device_put(drawn(jax.random.key(0)), jax.tree.map(lambda leaf: leaf.sharding, empty.params))
        rest = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding), (empty.step, empty.opt_state)
        )
        state = State(rest[0], params, rest[1])

        def step() -> Any:
            nonlocal state
            state, metrics = executable(state, placed, schedule)
            return metrics

        seconds = timed(step)
        tokens = shape.rows * (row.source + row.target)
        return {"s": seconds, "tokens_per_s": tokens / seconds, "loss": float(step().loss)}

    return predicted, measure


def decoding(run: RunConfig, rows: int, there: Topology) -> Made:
    """Prefill and greedy decoding, compiled whole; the bound of a token is its weights and cache, read once."""
    config, source = resolve(run.model), LENGTHS[0]
    definition = graph(config)
    read = stream(
        np.random.default_rng(0).integers(3, config.vocab_size, (rows, source)), 0, config.choices.source_open
    )
    first, read = (jax.tree.map(jnp.asarray, one) for one in (stream(np.full((rows, 1), 3), source), read))

    def weights(key: jax.Array) -> nnx.State:
        return jax.tree.map(lambda leaf: leaf.astype(config.dtype), initial(config, key))

    drawn = jax.jit(weights).lower(jax.random.key(0)).compile()
    shapes = jax.eval_shape(weights, jax.random.key(0))
    take = jax.jit(lambda params, read: prefill(definition, params, read, STEPS)).lower(shapes, read).compile()
    write = jax.jit(lambda params, read, first: greedy(definition, params, read, first, STEPS))
    written = write.lower(shapes, read, first).compile()
    device = there.device
    taken = rows * serving.prefill(config, source).mask
    moved = 2 * parameters(config).total + rows * serving.cache_bytes(config, source, STEPS, "bfloat16").total
    predicted = {
        "attention": config.attention,
        "prefill_bound_s": taken / device.peak[config.dtype],
        "token_bound_s": moved / device.bandwidth,
    }

    def measure() -> dict[str, Any]:
        params = drawn(jax.random.key(0))
        before = timed(lambda: take(params, read))
        token = (timed(lambda: written(params, read, first)) - before) / STEPS
        return {"prefill_s": before, "prefill_tokens_per_s": rows * source / before, "token_s": token,
                "decoded_tokens_per_s": rows / token}  # fmt: skip

    return predicted, measure


def compile_all(wanted: list[str], there: Topology, seconds: float) -> None:
    """Leave the programs of cells in the compilation cache; what is not done in time is left out."""
    start = time.perf_counter()
    pool = ThreadPoolExecutor(6)
    tasks = {pool.submit(make, cell, there): cell for cell in wanted}
    try:
        for task in as_completed(tasks, timeout=seconds):
            error = task.exception()
            state = "compiled" if error is None else f"failed: {str(error)[:300]}"
            print(f"{tasks[task]} {state}, {time.perf_counter() - start:.0f} s", flush=True)
    except TimeoutError:
        print(f"left out: {[cell for task, cell in tasks.items() if not task.done()]}", flush=True)
    os._exit(0)  # threads that still compile would be waited for


def measure_one(cell: str, there: Topology) -> None:
    """In a process of its own: say what is predicted, wait for a line, measure, say it."""
    predicted, measure = make(cell, there)
    print(json.dumps({"cell": cell, "predicted": predicted}), flush=True)
    sys.stdin.readline()
    before = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    measured = measure()
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    found = {**measured, "peak_bytes": peak, "peak_bytes_compiled": before}
    print(json.dumps({"cell": cell, "measured": found}), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools/bench device", description=__doc__.splitlines()[0])
    parser.add_argument("cells", nargs="*", help="default: all, the most telling first")
    parser.add_argument("--as", dest="name", help="the topology of one device whose datasheet counts, as h100:1")
    parser.add_argument("--out", type=Path, default=Path("runs/device"), help="device.jsonl is written here")
    parser.add_argument("--seconds", type=float, default=3600, help="after which no cell is begun")
    parser.add_argument("--child", choices=("compile", "measure"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        there = topology(options.name)
        if options.child == "compile":
            compile_all(options.cells, there, options.seconds)
        measure_one(options.cells[0], there)
        return 0
    seen = subprocess.run([sys.executable, "-c", "import jax; d = jax.devices()[0]; print(d.platform, d.device_kind)"],
                          capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    platform, _, kind = seen.partition(" ")
    name = options.name or next((name for part, name in KINDS.items() if part in kind), None)
    if name is None:
        print(f"no datasheet for {kind} ({platform}): --as NAME names one of {', '.join(KINDS.values())}")
        return 0
    return drive(options, name, kind, WANTED.get(platform, "plain"))


def drive(options: argparse.Namespace, name: str, kind: str, fused: str) -> int:
    start, wanted = time.monotonic(), options.cells or cells(fused)
    options.out.mkdir(parents=True, exist_ok=True)
    kept = tempfile.TemporaryDirectory()
    env = {"JAX_COMPILATION_CACHE_DIR": kept.name, **os.environ, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    env |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92"}
    env["TF_CPP_MIN_LOG_LEVEL"] = "2"
    command = [sys.executable, __file__, "--as", name, "--child"]
    share = str(0.45 * options.seconds)
    subprocess.run([*command, "compile", "--seconds", share, *wanted], env=env, check=False, timeout=options.seconds)
    found: dict[str, dict[str, Any]] = {}
    for first in range(0, len(wanted), 8):  # so many load at a time
        group = {}
        for cell in wanted[first : first + 8]:
            log = (options.out / f"{cell.replace(':', '_').replace('/', '_')}.log").open("w")
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
            group[cell] = subprocess.Popen([*command, "measure", cell], env=env, text=True, **pipes)
        said = {cell: process.stdout.readline() for cell, process in group.items()}  # all have loaded before one runs
        for cell, process in group.items():
            late = time.monotonic() - start > options.seconds
            out = "" if late or not said[cell] else process.communicate("\n")[0]
            process.kill()
            found[cell] = {"cell": cell, "device": kind, "as": name}
            for line in (said[cell], out):
                found[cell] |= json.loads(line) if line.startswith("{") else {}
            with (options.out / "device.jsonl").open("a") as file:
                print(json.dumps(found[cell]), file=file)
            state = found[cell].get("measured", "late" if late else "failed")
            print(f"{time.monotonic() - start:4.0f} s {cell}: {state}", flush=True)
    show(found, kind)
    return 0


def show(found: dict[str, dict[str, Any]], kind: str) -> None:
    """The tables; what was not measured is in none."""
    done = {cell: (one["predicted"], one["measured"]) for cell, one in found.items() if "measured" in one}
    ceiling = done["matmul"][1]["flops_per_s"] if "matmul" in done else float("nan")
    print(f"\n{kind}: a product of {SIDE} x {SIDE} in bfloat16 {ceiling / 1e12:.0f} TFLOP/s")
    print("| update | remat | rows | GiB: ledger | compiler | measured | s: roofline | compiler | measured "
          "| tokens/s | MFU: predicted | measured | of the product |\n" + "|---" * 13 + "|")  # fmt: skip
    gib = [2**30] * 3
    for cell, (said, saw) in done.items():
        if not cell.startswith("train:"):
            continue
        sizes = (said["ledger_bytes"], said.get("compiler_bytes"), saw["peak_bytes"])
        times = (said["ledger_s"], said.get("compiler_s"), saw["s"])
        shares = [said["model_flops"] / seconds / of for seconds, of in (
            (said.get("compiler_s") or said["ledger_s"], said["peak_flops_per_s"]),
            (saw["s"], said["peak_flops_per_s"]), (saw["s"], ceiling),
        )]  # fmt: skip
        held_bytes = [_over(n, of, ".2f") for n, of in zip(sizes, gib, strict=True)]
        row = [cell[6:], said["remat"], said["rows"], *held_bytes, *(_over(n, 1, ".4f") for n in times)]
        row += [f"{saw['tokens_per_s']:.0f}", *(f"{n:.3f}" for n in shares)]
        print("| " + " | ".join(map(str, row)) + " |")
    print("\n| decoding:rows | attention | prefill, s: bound | measured | tokens/s | a token, ms: bound | measured "
          "| tokens/s |\n" + "|---" * 8 + "|")  # fmt: skip
    for cell, (said, saw) in done.items():
        if cell.startswith("decode:"):
            row = [cell[7:], said["attention"], f"{said['prefill_bound_s']:.5f}", f"{saw['prefill_s']:.5f}",
                   f"{saw['prefill_tokens_per_s']:.0f}", f"{said['token_bound_s'] * 1e3:.3f}",
                   f"{saw['token_s'] * 1e3:.3f}", f"{saw['decoded_tokens_per_s']:.0f}"]  # fmt: skip
            print("| " + " | ".join(row) + " |")
    for cell, (_, saw) in done.items():
        if cell.startswith("attention:"):
            print(f"{cell}: forward {saw['forward_s'] * 1e3:.2f} ms, gradient {saw['gradient_s'] * 1e3:.2f} ms, "
                  f"{saw['flops_per_s'] / 1e12:.0f} TFLOP/s of what a causal mask requires")  # fmt: skip


def _over(number: float | None, unit: float, form: str) -> str:
    return "" if number is None else format(number / unit, form)


if __name__ == "__main__":
    sys.exit(main())

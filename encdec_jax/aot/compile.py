"""Compile a step for a topology, and read off what it would need there."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import jax
from jax.experimental.compilation_cache import compilation_cache

from encdec_jax.aot.bounds import Bound, Counted, bound, counted
from encdec_jax.aot.hlo import Program, read
from encdec_jax.aot.steps import Step, lower
from encdec_jax.aot.topology import FAMILIES, Topology
from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.errors import UserError, require
from encdec_jax.model.choice import resolve
from encdec_jax.train.config import MeshConfig


@dataclass(frozen=True)
class Memory:
    """Bytes of a compiled step on one device; `aliased` are outputs that take the place of donated arguments."""

    arguments: int
    temporaries: int
    outputs: int
    aliased: int
    code: int

    @property
    def total(self) -> int:
        """At once."""
        return self.arguments + self.temporaries + self.outputs - self.aliased + self.code


@dataclass(frozen=True)
class Compiled:
    """What the compiler said of one step of one run on one topology.

    Attributes:
      run: with the mesh that was compiled for, and the kernel that its attention got.
      topology: it was compiled for.
      step: which.
      rows: of the batch.
      compile_s: seconds that tracing and compiling took here.
      needs: bytes a device; what the compiler said it would have needed where it gave up.
      holds: bytes a device has for a program.
      counted: the ledger's FLOPs a device.
      memory, program, bound: None where the compiler gave up.
      flops: the compiler's own count a device, which takes the body of a loop once; None where it gives none.
      seconds: the compiler's own estimate without collectives, and fused kernels, for which it gives none, at the
        device's peak; None where it gives none at all.
    """

    run: RunConfig
    topology: Topology
    step: Step
    rows: int
    compile_s: float
    needs: int
    holds: int
    counted: Counted
    memory: Memory | None = None
    program: Program | None = None
    bound: Bound | None = None
    flops: float | None = None
    seconds: float | None = None

    @property
    def fits(self) -> bool:
        """Whether a device can hold it."""
        return self.needs <= self.holds

    @property
    def times(self) -> tuple[float, float] | None:
        """Seconds by the compiler's estimate, else by the bound: if collectives go on beside all else, and if apart."""
        if self.bound is None:
            return None
        busy = max(self.bound.compute, self.bound.memory) if self.seconds is None else self.seconds
        return max(busy, self.bound.collectives), busy + self.bound.collectives

    @property
    def mfu(self) -> tuple[float, float] | None:
        """Predicted utilisation of the device's peak, recomputation not counted, by either of `times`."""
        peak = self.topology.device.peak[self.run.model.dtype]
        if self.times is None or self.seconds is None:
            return None
        beside, apart = (self.counted.model / peak / time for time in self.times)
        return beside, apart


def on(run: RunConfig, mesh: MeshConfig, topology: Topology) -> None:
    """Refuse a mesh that is not all of the topology.

    Raises:
      UserError: it has fewer devices, or more.
    """
    accepted = f"numbers whose product is the {topology.size} devices of {topology.name}, not {mesh.size}"
    require(mesh.size == topology.size, "mesh", str(mesh), accepted)


def compile_step(run: RunConfig, topology: Topology, devices: Sequence[jax.Device], step: Step = "train") -> Compiled:
    """Compile one step of a run for its mesh on a topology.

    Args:
      run: the configuration; its mesh spans the topology.
      topology: which hardware.
      devices: of the topology (`encdec_jax.aot.topology.devices`).
      step: 'train', 'prefill' or 'decode'.

    Raises:
      UserError: the mesh does not fit the topology, the rows, or the model's shapes.
    """
    on(run, run.mesh, topology)
    start = time.perf_counter()
    run = replace(run, model=resolve(run.model, topology.platform))
    shape = geometry(run)
    lowered = lower(run, step, devices)
    try:
        with _uncached():
            compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        ledger = counted(run, step, shape.sequence)
        return Compiled(run, topology, step, shape.rows, time.perf_counter() - start, *exhausted(str(error)), ledger)
    return told(compiled, run, topology, step, time.perf_counter() - start)


def told(compiled: jax.stages.Compiled, run: RunConfig, topology: Topology, step: Step, compile_s: float) -> Compiled:
    """What the compiler says of a step that it has compiled for a topology, in `compile_s` seconds.

    Raises:
      UserError: its program holds what is not known here.
    """
    shape = geometry(run)
    ledger = counted(run, step, shape.sequence)
    stats, text = compiled.memory_analysis(), compiled.as_text()
    assert stats is not None  # both compilers tell
    assert text is not None
    memory = Memory(
        stats.argument_size_in_bytes,
        stats.temp_size_in_bytes,
        stats.output_size_in_bytes,
        stats.alias_size_in_bytes,
        stats.generated_code_size_in_bytes,
    )
    program = read(text)
    own = compiled.cost_analysis() or {}
    wire = sum(c.wire for c in program.collectives)
    moved = memory.arguments + memory.outputs + 2 * memory.temporaries
    # A fused kernel's FLOPs are not in the text; it computes between what the mask requires and all pairs.
    flops = program.flops if not program.kernels else max(program.flops, ledger.mask)
    return Compiled(
        run,
        topology,
        step,
        shape.rows,
        compile_s,
        needs=memory.total,
        holds=topology.device.memory_bytes,
        counted=ledger,
        memory=memory,
        program=program,
        bound=bound(topology.device, run.model.dtype, flops, moved, wire),
        flops=own.get("flops"),
        seconds=_seconds(topology, program, own.get("optimal_seconds", -1.0), flops - program.flops),
    )


@contextmanager
def _uncached() -> Iterator[None]:
    """Without jax's persistent cache: it can write the programs of absent devices, but not read them back."""
    was: bool = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", was)
        compilation_cache.reset_cache()


def exhausted(message: str) -> tuple[int, int]:
    """(bytes needed, bytes there are) of a compiler's refusal. Some name temporaries alone: then it is more.

    Raises:
      UserError: the refusal does not say.
    """
    size = r"([\d.]+)([KMGT]?)"
    found = re.search(rf"Used {size} of {size} hbm|\({size}\) exceeds available HBM \({size}\)", message)
    if found is None:
        raise UserError(f"the step does not fit the device; its compiler says: {message.splitlines()[0]}")
    units = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    needed, unit, held, other = (group for group in found.groups() if group is not None)
    return int(float(needed) * units[unit]), int(float(held) * units[other])


def _seconds(topology: Topology, program: Program, optimal: float, kernels: float) -> float | None:
    """The compiler's estimate: its `optimal_seconds`, or the sum of its instructions' cycles.

    libtpu's `optimal_seconds` takes a loop's body once, and falls below 0 where collectives are overlapped. It gives
    no cycles of a fused kernel: its FLOPs, as the mask requires, are taken at the peak, which is the least.
    """
    cycle = FAMILIES[topology.family].cycle
    if program.cycles is not None and cycle is not None:
        return (program.cycles * cycle + kernels) / topology.device.peak["bfloat16"]
    return optimal if optimal > 0 else None

"""What a compiled program does, read from its HLO text: collectives and matrix products, loops multiplied out.

XLA's own cost analysis counts the body of a loop once; a scanned stack is such a body.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from encdec_jax.aot.collectives import Collective, collectives, unfinished
from encdec_jax.aot.instructions import PRODUCTS, Computation, Instruction, parse, shapes, unread

_CALLS = re.compile(r"\b(?:calls|body|condition|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_KERNELS = re.compile(r'"(tpu_custom_call|__cudnn\S*|__cublas\S*)"')


@dataclass(frozen=True)
class Program:
    """What one device executes.

    Attributes:
      collectives: by kind and group size, most bytes first.
      flops: of matrix products that stand in the text; a custom call's (a fused kernel's) are not.
      kernels: executions of custom kernels and library calls, whose FLOPs the text does not say.
      cycles: the compiler's estimates of its instructions' clock cycles, summed; None where it gives none.
      unknown_loops: loops whose length the text does not say, and whose bodies are counted once therefore.
    """

    collectives: tuple[Collective, ...]
    flops: float
    kernels: int
    cycles: float | None
    unknown_loops: int


def read(text: str) -> Program:
    """The program in HLO text, `Compiled.as_text()`.

    Raises:
      UserError: it holds an instruction, or a form of a collective, that is not known.
    """
    computations, entry, devices = parse(text)
    if chains := unfinished(iter(computations.values())):
        raise unread(f"asynchronous collectives on channels {', '.join(sorted(chains))} that nothing starts")
    times, unknown = _multiplicities(computations, entry)
    fused = _fused(computations)
    found: dict[tuple[str, int], list[float]] = {}
    flops, kernels, cycles = 0.0, 0, 0.0
    for name, n in times.items():
        computation = computations[name]
        for instruction in computation.instructions.values():
            if cost := _CYCLES.search(instruction.rest):
                cycles += n * int(cost[1])
            if instruction.op in PRODUCTS:
                flops += n * _product(computation, instruction)
            if instruction.begins == "custom-call" and _KERNELS.search(instruction.rest):
                kernels += n
        for one in collectives(computation, name in fused, devices):
            total = found.setdefault((one.kind, one.group), [0, 0, 0.0])
            for i, value in enumerate((1, one.bytes, one.wire)):
                total[i] += n * value
    summed = [
        Collective(kind, group, int(count), int(size), wire) for (kind, group), (count, size, wire) in found.items()
    ]
    summed.sort(key=lambda c: -c.bytes)
    return Program(tuple(summed), flops, kernels, cycles or None, unknown)


def _fused(computations: dict[str, Computation]) -> set[str]:
    """The bodies of fusions that are the compiler's own kind."""
    return {
        name
        for computation in computations.values()
        for one in computation.instructions.values()
        if one.begins == "fusion" and "kind=kCustom" in one.rest
        for name in _callees(one)
    }


def _multiplicities(computations: dict[str, Computation], entry: str) -> tuple[dict[str, int], int]:
    """How often each computation is executed, and the number of loops of unknown length."""
    times: dict[str, int] = {}
    unknown = 0

    def visit(name: str, n: int) -> None:
        nonlocal unknown
        times[name] = times.get(name, 0) + n
        for instruction in computations[name].instructions.values():
            trips = 1
            if instruction.op == "while":
                known = _trips(computations, computations[name], instruction)
                unknown += known is None
                trips = 1 if known is None else known
            if not instruction.begins:
                continue
            for callee in _callees(instruction):
                if callee in computations:
                    visit(callee, n * trips)

    visit(entry, 1)
    return times, unknown


def _callees(instruction: Instruction) -> Iterator[str]:
    yield from _CALLS.findall(instruction.rest)
    for names in _BRANCHES.findall(instruction.rest):
        yield from (name.strip().lstrip("%") for name in names.split(",") if name.strip())


def _trips(computations: dict[str, Computation], outer: Computation, loop: Instruction) -> int | None:
    """A loop's length: as the text states it, or of a counter that steps from one constant to below another."""
    if known := _TRIPS.search(loop.rest):
        return int(known[1])
    condition, body = (computations[loop.attributes[name].lstrip("%")] for name in ("condition", "body"))
    compare = condition.root
    counters = [one for name in compare.operands if (one := condition.instructions[name]).op == "get-tuple-element"]
    if compare.op != "compare" or "direction=LT" not in compare.rest or len(counters) != 1:
        return None
    index = _index(counters[0])
    last, first = body.root, _source(outer.instructions, loop.operands[0])
    if index is None or last.op != "tuple" or first.op != "tuple":
        return None
    step = _source(body.instructions, last.operands[index])
    steps = [_constant(_source(body.instructions, name)) for name in step.operands] if step.op == "add" else []
    start, limit = (
        _constant(_source(outer.instructions, first.operands[index])),
        _constant(condition.instructions[compare.operands[1]]),
    )
    known_steps = [n for n in steps if n is not None]
    if start is None or limit is None or len(known_steps) != 1:
        return None
    return -(-(limit - start) // known_steps[0])


def _source(instructions: dict[str, Instruction], name: str) -> Instruction:
    """What a value is, behind copies of it."""
    while instructions[name].op in ("copy", "bitcast"):
        name = instructions[name].operands[0]
    return instructions[name]


def _constant(instruction: Instruction) -> int | None:
    found = re.match(r"(-?\d+)\)", instruction.rest) if instruction.op == "constant" else None
    return int(found[1]) if found else None


def _index(element: Instruction) -> int | None:
    found = re.search(r"index=(\d+)", element.rest)
    return int(found[1]) if found else None


def _product(computation: Computation, instruction: Instruction) -> float:
    """FLOPs of a matrix product of shapes [B, M, K] x [B, K, N] -> [B, M, N], in whatever order: 2 B M N K.

    The sizes' product is B^3 (M N K)^2, so only B must be told from the dimensions. A TPU's products are convolutions:
    there a batch is a spatial dimension of one size in both operands and the result, or groups.
    """
    names = instruction.operands[:2]
    types = (*(computation.instructions[name].type for name in names), instruction.type)
    sizes = [shapes(type_)[0][1] for type_ in types]
    batch = math.prod(int(n) for n in re.findall(r"(?:feature|batch)_group_count=(\d+)", instruction.rest))
    if labels := re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.rest):
        for digit in filter(str.isdigit, labels[1]):
            along = {shape[label.index(digit)] for shape, label in zip(sizes, labels.groups(), strict=True)}
            batch *= along.pop() if len(along) == 1 else 1
    elif dims := re.search(r"lhs_batch_dims=\{([\d,]*)\}", instruction.rest):
        batch *= math.prod(sizes[0][int(i)] for i in dims[1].split(",") if i)
    return 2 * math.sqrt(math.prod(math.prod(shape) for shape in sizes) / batch)

"""What a compiled program does, read from its HLO text: collectives and matrix products, loops multiplied out.

XLA's own cost analysis counts the body of a loop once; a scanned stack is such a body.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

BYTES = {"pred": 1, "bf16": 2, "f16": 2, "f32": 4, "f64": 8, "c64": 8, "c128": 16}
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "ragged-all-to-all")

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][a-z0-9\-]*)\((.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\]")
_CALLS = re.compile(r"\b(?:calls|body|condition|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


@dataclass(frozen=True)
class Collective:
    """All collectives of one kind and group size in a step, seen from one device.

    Attributes:
      kind: of `KINDS`.
      group: devices that take part in each.
      count: number executed.
      bytes: of the whole buffers: an all-gather's result, a reduce-scatter's operand; summed over all executions.
      wire: bytes that a device must send for them if each goes round a ring.
    """

    kind: str
    group: int
    count: int
    bytes: int
    wire: float


@dataclass(frozen=True)
class Program:
    """What one device executes.

    Attributes:
      collectives: by kind and group size, most bytes first.
      flops: of matrix products that stand in the text; a custom call's (a fused kernel's) are not.
      kernels: executions of custom kernels, whose FLOPs the text does not say.
      cycles: the compiler's estimates of its instructions' clock cycles, summed; None where it gives none.
      unknown_loops: loops whose length the text does not say, and whose bodies are counted once therefore.
    """

    collectives: tuple[Collective, ...]
    flops: float
    kernels: int
    cycles: float | None
    unknown_loops: int


@dataclass
class _Instruction:
    name: str
    type: str
    op: str
    rest: str  # from the operands on


@dataclass
class _Computation:
    name: str
    instructions: dict[str, _Instruction] = field(default_factory=dict)


def read(text: str) -> Program:
    """The program in HLO text, `Compiled.as_text()`."""
    computations, entry = _parse(text)
    times, unknown = _multiplicities(computations, entry)
    found: dict[tuple[str, int], list[float]] = {}
    flops, kernels, cycles = 0.0, 0, 0.0
    for name, n in times.items():
        computation = computations[name]
        started = any('"AsyncCollectiveStart"' in i.rest for i in computation.instructions.values())
        for instruction in computation.instructions.values():
            if cost := _CYCLES.search(instruction.rest):
                cycles += n * int(cost[1])
            if instruction.op in ("convolution", "dot"):
                flops += n * _product(computation, instruction)
            if instruction.op == "custom-call" and re.search(r'"(tpu_custom_call|__cudnn\S*)"', instruction.rest):
                kernels += n
            # A TPU's asynchronous collective stands in three fusions: where it starts, goes on and is done.
            if "chain_id=" in instruction.rest and not started:
                continue
            if (one := _collective(computation, instruction)) is not None:
                total = found.setdefault((one.kind, one.group), [0, 0, 0.0])
                for i, value in enumerate((1, one.bytes, one.wire)):
                    total[i] += n * value
    collectives = [
        Collective(kind, group, int(count), int(size), wire) for (kind, group), (count, size, wire) in found.items()
    ]
    collectives.sort(key=lambda c: -c.bytes)
    return Program(tuple(collectives), flops, kernels, cycles or None, unknown)


def _parse(text: str) -> tuple[dict[str, _Computation], str]:
    """Computations by name, and the name of the entry."""
    computations: dict[str, _Computation] = {}
    current, entry = _Computation(""), ""
    for line in text.splitlines():
        if line[:1].strip() and (head := _HEAD.match(line)):
            current = computations[head[2]] = _Computation(head[2])
            entry = head[2] if head[1] else entry
        elif found := _INSTRUCTION.match(line):
            current.instructions[found[1]] = _Instruction(*found.groups())
    return computations, entry


def _multiplicities(computations: dict[str, _Computation], entry: str) -> tuple[dict[str, int], int]:
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
            if instruction.op in ("async-update", "async-done"):
                continue
            for callee in _callees(instruction):
                if callee in computations:
                    visit(callee, n * trips)

    visit(entry, 1)
    return times, unknown


def _callees(instruction: _Instruction) -> Iterator[str]:
    yield from _CALLS.findall(instruction.rest)
    for names in _BRANCHES.findall(instruction.rest):
        yield from (name.strip().lstrip("%") for name in names.split(",") if name.strip())


def _trips(computations: dict[str, _Computation], outer: _Computation, loop: _Instruction) -> int | None:
    """A loop's length: as the text states it, or of a counter that steps from one constant to below another."""
    if known := _TRIPS.search(loop.rest):
        return int(known[1])
    condition, body = (
        computations[name].instructions for name in re.findall(r"(?:condition|body)=%?([\w.\-]+)", loop.rest)
    )
    compare = list(condition.values())[-1]
    counters = [condition[name] for name in _operands(compare) if condition[name].op == "get-tuple-element"]
    if compare.op != "compare" or "direction=LT" not in compare.rest or len(counters) != 1:
        return None
    index = _index(counters[0])
    last, first = list(body.values())[-1], _source(outer.instructions, _operands(loop)[0])
    if index is None or last.op != "tuple" or first.op != "tuple":
        return None
    step = _source(body, _operands(last)[index])
    steps = [_constant(_source(body, name)) for name in _operands(step)] if step.op == "add" else []
    start, limit = (
        _constant(_source(outer.instructions, _operands(first)[index])),
        _constant(condition[_operands(compare)[1]]),
    )
    known_steps = [n for n in steps if n is not None]
    if start is None or limit is None or len(known_steps) != 1:
        return None
    return -(-(limit - start) // known_steps[0])


def _operands(instruction: _Instruction) -> list[str]:
    return re.findall(r"%([\w.\-]+)", instruction.rest.partition(")")[0])


def _source(instructions: dict[str, _Instruction], name: str) -> _Instruction:
    """What a value is, behind copies of it."""
    while instructions[name].op in ("copy", "bitcast"):
        name = _operands(instructions[name])[0]
    return instructions[name]


def _constant(instruction: _Instruction) -> int | None:
    found = re.match(r"(-?\d+)\)", instruction.rest) if instruction.op == "constant" else None
    return int(found[1]) if found else None


def _index(element: _Instruction) -> int | None:
    found = re.search(r"index=(\d+)", element.rest)
    return int(found[1]) if found else None


def _collective(computation: _Computation, instruction: _Instruction) -> Collective | None:
    kind = instruction.op.removesuffix("-start")
    if kind not in KINDS:
        return None
    arrays = _sizes(instruction.type)
    if instruction.op.endswith("-start") and kind in ("all-gather", "collective-permute"):
        arrays = arrays[len(arrays) // 2 :] if kind == "all-gather" else arrays[1:2]  # behind its operands
    group, size = _group(instruction), sum(arrays)
    if group == 1:  # of one device with itself
        return None
    if kind == "reduce-scatter":
        size *= group
    if kind == "all-reduce" and computation.name.startswith("all-reduce-scatter"):  # a fusion of TPUs
        kind = "reduce-scatter"
    share = {"all-reduce": 2 * (group - 1) / group, "collective-permute": 1.0}.get(kind, (group - 1) / group)
    return Collective(kind, group, 1, size, share * size)


def _group(instruction: _Instruction) -> int:
    """Devices that one collective spans."""
    rest = instruction.rest
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return len(listed[1].split(","))
    if counted := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(counted[1])
    if named := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", rest):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", named[2]))
    return 2 if "source_target_pairs" in rest else 1


def _product(computation: _Computation, instruction: _Instruction) -> float:
    """FLOPs of a matrix product of shapes [B, M, K] x [B, K, N] -> [B, M, N], in whatever order: 2 B M N K.

    The sizes' product is B^3 (M N K)^2, so only B must be told from the dimensions. A TPU's products are convolutions:
    there a batch is a spatial dimension of one size in both operands and the result, or groups.
    """
    names = _operands(instruction)[:2]
    shapes = [_shape(type_) for type_ in (*(computation.instructions[n].type for n in names), instruction.type)]
    batch = math.prod(int(n) for n in re.findall(r"(?:feature|batch)_group_count=(\d+)", instruction.rest))
    if labels := re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.rest):
        for digit in filter(str.isdigit, labels[1]):
            sizes = {shape[label.index(digit)] for shape, label in zip(shapes, labels.groups(), strict=True)}
            batch *= sizes.pop() if len(sizes) == 1 else 1
    elif dims := re.search(r"lhs_batch_dims=\{([\d,]*)\}", instruction.rest):
        batch *= math.prod(shapes[0][int(i)] for i in dims[1].split(",") if i)
    return 2 * math.sqrt(math.prod(math.prod(shape) for shape in shapes) / batch)


def _shape(type_: str) -> list[int]:
    found = _ARRAY.search(type_)
    assert found is not None
    return [int(n) for n in found[2].split(",") if n]


def _sizes(type_: str) -> list[int]:
    """Bytes of each array in a type."""
    found = []
    for name, dims in _ARRAY.findall(re.sub(r"\{[^}]*\}", "", type_)):
        bits = re.search(r"\d+", name)
        width = BYTES.get(name) or (int(bits[0]) / 8 if bits else 0)
        found.append(int(width * math.prod(int(n) for n in dims.split(",") if n)))
    return found

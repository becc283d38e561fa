"""Instructions of HLO text, as XLA prints a compiled module, by a parser that refuses what it does not know.

jaxlib gives the module as bytes of a protocol buffer too, but not the schema that they are read by.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import cached_property

from encdec_jax.errors import UserError

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][a-z0-9\-]*)\((.*)$")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:, ?)?")
_WIDTHS = {"pred": 1.0, "token": 0.0, "opaque": 0.0, "c64": 8.0, "c128": 16.0}

# Every opcode of XLA (xla/hlo/ir/hlo_opcode.h) that sends nothing to other devices. Products stand apart.
_LOCAL = """
abs acos acosh add add-dependency after-all and asin asinh async atan2 atanh batch-norm-grad batch-norm-inference
batch-norm-training bitcast bitcast-convert broadcast call cbrt ceil cholesky clamp compare complex concatenate
conditional constant convert copy cosh cosine count-leading-zeros custom-call divide domain dynamic-reshape
dynamic-slice dynamic-update-slice erf exponential exponential-minus-one fft floor fusion gather get-dimension-size
get-tuple-element imag infeed iota is-finite log log-plus-one logistic map maximum minimum mulhi multiply negate not
opt-barrier or outfeed pad parameter partition-id popcnt power real reduce reduce-precision reduce-window remainder
replica-id reshape reverse rng rng-bit-generator rng-get-and-update-state round-nearest-afz round-nearest-even rsqrt
scan scatter select select-and-scatter set-dimension-size shift-left shift-right-arithmetic shift-right-logical sign
sine sinh slice sort sqrt stochastic-convert subtract tan tanh topk transpose triangular-solve tuple while xor
"""
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
PRODUCTS = ("convolution", "dot")
_STEPS = ("", "-start", "-update", "-done")  # any may be asynchronous: `slice-start` is an `async-start` of a slice
_KNOWN = {*PRODUCTS, *(op + step for op in (*_LOCAL.split(), *KINDS) for step in _STEPS)}


def unread(what: str) -> UserError:
    """The error that says which part of a program is not understood."""
    return UserError(f"can't read the compiled program: {what}; this version of XLA prints what is not known here")


@dataclass
class Instruction:
    """One instruction: its name, its type as text, its opcode, and the text from the operands on."""

    name: str
    type: str
    op: str
    rest: str
    root: bool = False

    @property
    def begins(self) -> str:
        """The opcode of what it does, or starts; empty where it goes on with, or ends, what another started."""
        return "" if self.op.endswith(("-update", "-done")) else self.op.removesuffix("-start")

    @cached_property
    def operands(self) -> list[str]:
        """Names of the operands."""
        return re.findall(r"%([\w.\-]+)", self._parts[0])

    @cached_property
    def attributes(self) -> dict[str, str]:
        """What stands behind the operands, by name."""
        found: dict[str, str] = {}
        for part in self._parts[1:]:
            name, equals, value = part.partition("=")
            if not equals:
                raise unread(f"{part!r} of {self.op} is no attribute")
            if name == "device_ids" and "replica_groups" in found:  # a mesh of groups goes on behind a comma
                found["replica_groups"] += f", {part}"
            else:
                found[name] = value
        return found

    @property
    def closed(self) -> bool:
        """Whether every bracket and quote of its text is."""
        return _split(self.rest) is not None

    @cached_property
    def _parts(self) -> list[str]:
        parts = _split(self.rest)
        if parts is None:
            raise unread(f"the brackets of {self.op} do not close")
        return parts


@dataclass
class Computation:
    """A named sequence of instructions."""

    name: str
    instructions: dict[str, Instruction] = field(default_factory=dict)

    @property
    def root(self) -> Instruction:
        """What it gives back."""
        return next(one for one in reversed(self.instructions.values()) if one.root)

    def users(self, name: str) -> list[Instruction]:
        """The instructions that take the value of that name."""
        return [one for one in self.instructions.values() if f"%{name}" in one.rest and name in one.operands]


def parse(text: str) -> tuple[dict[str, Computation], str, int]:
    """Computations by name, the name of the entry, and the devices that the program runs on.

    Raises:
      UserError: a line or an opcode is not known, or the module has replicas beside its partitions.
    """
    computations: dict[str, Computation] = {}
    current: Computation | None = None
    last: Instruction | None = None
    entry, devices = "", 1
    for line in text.splitlines():
        if line.startswith("HloModule "):
            counts = dict(re.findall(r"\b(num_partitions|replica_count)=(\d+)", line))
            devices = int(counts.get("num_partitions", 1))
            if int(counts.get("replica_count", 1)) != 1:
                raise unread(f"it has {counts['replica_count']} replicas")
        elif current is None:
            if head := _HEAD.match(line):
                current = computations[head[2]] = Computation(head[2])
                entry = head[2] if head[1] else entry
            elif _INSTRUCTION.match(line):
                raise unread(f"the line {line.strip()[:80]!r} outside of a computation")
        elif found := _INSTRUCTION.match(line):
            root, name, type_, op, rest = found.groups()
            if op not in _KNOWN:
                raise unread(f"the instruction {op}")
            current.instructions[name] = last = Instruction(name, type_, op, rest, bool(root))
        elif last is not None and not last.closed:  # what a kernel says of itself goes over several lines
            last.rest += f"\n{line}"
        elif line == "}":
            current, last = None, None
        elif line.strip():
            raise unread(f"the line {line.strip()[:80]!r}")
    if not entry:
        raise unread("it has no entry")
    return computations, entry, devices


def _split(rest: str) -> list[str] | None:
    """The operands, then each attribute: commas within brackets and quotes part nothing. None if one does not close."""
    parts: list[str] = []
    depth, start, quoted = 1, 0, False  # within the bracket that the opcode opened
    for found in re.finditer(r'\\.|["(){}\[\],]', rest):
        at, mark = found.start(), found[0]
        if mark == '"':
            quoted = not quoted
        elif quoted or mark[0] == "\\":
            continue
        elif mark in "([{":
            depth += 1
        elif mark in ")]}":
            depth -= 1
            if depth == 0 and not parts:
                parts.append(rest[:at])
                start = at + 1
        elif depth == 0:
            parts.append(rest[start:at])
            start = at + 1
    if depth or quoted:
        return None
    return [parts[0], *(part.strip() for part in (*parts[1:], rest[start:]) if part.strip())]


def shapes(type_: str) -> list[tuple[str, list[int]]]:
    """(element type, dimensions) of each array in a type.

    Raises:
      UserError: the type is written in a way that is not known.
    """
    flat = re.sub(r"/\*.*?\*/|\{[^{}]*\}|[()]", "", type_).strip()
    found = [(one[1], [int(n) for n in one[2].split(",") if n]) for one in _ARRAY.finditer(flat)]
    if _ARRAY.sub("", flat).strip(", "):
        raise unread(f"the type {type_[:80]!r}")
    return found


def nbytes(type_: str) -> int:
    """Bytes of all arrays in a type, tuples included.

    Raises:
      UserError: as `shapes`, or an element type is not known.
    """
    return sum(math.ceil(_width(name) * math.prod(dims)) for name, dims in shapes(type_))


def elements(type_: str) -> int:
    """Elements of all arrays in a type.

    Raises:
      UserError: as `shapes`.
    """
    return sum(math.prod(dims) for _, dims in shapes(type_))


def _width(name: str) -> float:
    """Bytes of an element: f32, bf16, s4, f8e4m3fn."""
    if name in _WIDTHS:
        return _WIDTHS[name]
    bits = re.fullmatch(r"(?:[sufc]|bf)(\d+)(?:e\d+m\d+\w*)?", name)
    if bits is None:
        raise unread(f"the element type {name}")
    return int(bits[1]) / 8

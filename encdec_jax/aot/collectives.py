"""What a collective of a compiled program sends: whom it spans, how large it is, what goes over a device's wires."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from encdec_jax.aot.instructions import KINDS, Computation, Instruction, elements, nbytes, unread

# A TPU's asynchronous collective stands in a chain of fusions: the first starts it, the last is where it is done.
_BEGINS = '"AsyncCollectiveStart"'
_SENDS = re.compile(
    r'custom_call_target="((?!AsyncCollective(?:Start|Done)")[^"]*'
    r'(?i:collective|all.?reduce|all.?gather|reduce.?scatter|all.?to.?all|permute|nccl)[^"]*)"'
)
_ATTRIBUTES = frozenset(
    (
        *("channel_id", "replica_groups", "source_target_pairs", "use_global_device_ids", "dimensions"),
        *("split_dimension", "to_apply", "constrain_layout", "frontend_attributes", "backend_config", "metadata"),
        *("sharding", "control-predecessors", "origin"),
    )
)


@dataclass(frozen=True)
class Collective:
    """All collectives of one kind and group size in a step, seen from one device.

    Attributes:
      kind: of `KINDS`.
      group: devices that take part in each; 2 of a permutation, from one to another.
      count: number executed.
      bytes: of the whole buffers: an all-gather's result, a reduce-scatter's operand; summed over all executions.
      wire: bytes that a device must send for them if each goes round a ring.
    """

    kind: str
    group: int
    count: int
    bytes: int
    wire: float


def collectives(computation: Computation, fused: bool, devices: int) -> Iterator[Collective]:
    """The collectives of one execution of a computation; those that send nothing are left out.

    Args:
      computation: its instructions alone, not those that it calls.
      fused: whether it is the body of a fusion of the compiler's own.
      devices: of the program.

    Raises:
      UserError: one is written in a way that is not known.
    """
    for instruction in computation.instructions.values():
        if instruction.begins == "custom-call" and (target := _SENDS.search(instruction.rest)):
            raise unread(f"the custom call {target[1]}")
        kind = instruction.begins
        if kind not in KINDS or (_chain(instruction) is not None and not _begun(computation, instruction)):
            continue
        found = _collective(kind, computation, instruction, devices)
        if found is not None:
            scattered = fused and kind == "all-reduce" and _scattered(computation, instruction)
            yield _of("reduce-scatter", found.group, found.bytes) if scattered else found


def unfinished(computations: Iterator[Computation]) -> set[str]:
    """Chains that no fusion starts: their collectives would be counted nowhere."""
    begun, seen = set(), set()
    for computation in computations:
        for instruction in computation.instructions.values():
            if instruction.begins in KINDS and _chain(instruction) is not None:
                seen.add(instruction.attributes.get("channel_id", ""))
                if _begun(computation, instruction):
                    begun.add(instruction.attributes.get("channel_id", ""))
    return seen - begun


def _chain(instruction: Instruction) -> str | None:
    found = re.search(r'chain_id="(\d+)"', instruction.rest)
    return found[1] if found else None


def _begun(computation: Computation, instruction: Instruction) -> bool:
    """Whether a chain's collective starts here."""
    return any(_BEGINS in user.rest for user in computation.users(instruction.name))


def _scattered(computation: Computation, reduced: Instruction) -> bool:
    """Whether a device keeps no more than its slice of the sums: then a TPU scatters them."""
    users = [user for one in _elements(computation, reduced) for user in computation.users(one.name)]
    return bool(users) and all(user.op == "dynamic-slice" for user in users)


def _elements(computation: Computation, value: Instruction) -> Iterator[Instruction]:
    """A value, or the elements that are taken of a tuple."""
    elements = [user for user in computation.users(value.name) if user.op == "get-tuple-element"]
    yield from elements or [value]


def _collective(kind: str, computation: Computation, instruction: Instruction, devices: int) -> Collective | None:
    if unknown := set(instruction.attributes) - _ATTRIBUTES:
        raise unread(f"{instruction.op} with {', '.join(sorted(unknown))}")
    operands = [computation.instructions[name].type for name in instruction.operands]
    if kind == "collective-permute":
        pairs = instruction.attributes.get("source_target_pairs", "")
        if not re.fullmatch(r"\{(\{\d+,\d+\},?)*\}", pairs):
            raise unread(f"the pairs {pairs!r} of a {kind}")
        moved = any(source != target for source, target in re.findall(r"(\d+),(\d+)", pairs))
        return _of(kind, 2, sum(map(nbytes, operands))) if moved else None
    group = group_size(_groups(instruction), devices)
    whole = sum(map(nbytes, operands)) * (group if kind == "all-gather" else 1)
    if not instruction.op.endswith("-start"):  # one that only starts gives its operands back too
        held, given = sum(map(elements, operands)), elements(instruction.type)
        if given != {"all-gather": held * group, "reduce-scatter": held / group}.get(kind, held):
            raise unread(f"a {kind} of {held} elements among {group} devices that gives {given}")
        if kind != "reduce-scatter":  # a TPU may sum float32 into bfloat16, which is what it sends
            whole = nbytes(instruction.type)
    return None if group == 1 else _of(kind, group, whole)


def _of(kind: str, group: int, size: int) -> Collective:
    shares = {"all-reduce": 2 * (group - 1) / group, "collective-permute": 1.0, "collective-broadcast": 1.0}
    return Collective(kind, group, 1, size, shares.get(kind, (group - 1) / group) * size)


def _groups(instruction: Instruction) -> str:
    """The groups of devices as they are written.

    Without a channel they are of replicas, of which there is one: then it is a device with itself. With a channel, but
    not by global ids, the one replica stands for all its partitions.
    """
    attributes = instruction.attributes
    if "replica_groups" not in attributes:
        raise unread(f"{instruction.op} without replica_groups")
    if "channel_id" not in attributes:
        return "{{0}}"
    groups = attributes["replica_groups"]
    return "{}" if groups == "{{0}}" and "use_global_device_ids" not in attributes else groups


def group_size(groups: str, devices: int) -> int:
    """Devices in each group of a collective, in every form that XLA prints.

    Args:
      groups: '{{0,1},{2,3}}', '{}' (one group of all), '[2,2]<=[4]' (so many groups of so many devices, whatever the
        order), "mesh['a'=2,'b'=2] {'a'}" (all that differ in these axes alone), also with `device_ids` behind the mesh
        and parts of axes, as 'a':(1)2.
      devices: of the program.

    Raises:
      UserError: another form, groups of several sizes, or more or fewer devices than there are.
    """
    if re.fullmatch(r"\{(\{\d+(,\d+)*\},?)*\}", groups):
        sizes = [len(group.split(",")) for group in re.findall(r"\{([\d,]+)\}", groups)] or [devices]
    elif counted := re.fullmatch(r"\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\([\d,]+\))?", groups):
        sizes = [int(counted[2])] * int(counted[1])
        if sum(sizes) != math.prod(map(int, counted[3].split(","))):
            raise unread(f"replica_groups={groups}")
    elif named := re.fullmatch(
        r"mesh\[([^\[\]]*)\](?:, device_ids=\((?:[\d,]+|\[[\d,]+\](?:<=\[[\d,]+\])?(?:T\([\d,]+\))?)\))? \{([^{}]*)\}",
        groups,
    ):
        axes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", named[1])}
        size = math.prod(_axis(part, axes, groups) for part in named[2].split(",") if part.strip())
        sizes = [size] * (math.prod(axes.values()) // size)
    else:
        raise unread(f"replica_groups={groups}")
    if len(set(sizes)) != 1 or (devices > 1 and sum(sizes) not in (1, devices)):
        raise unread(f"replica_groups={groups} of {devices} devices")
    return sizes[0]


def _axis(part: str, axes: dict[str, int], groups: str) -> int:
    """Devices along an axis of the mesh, or along a part of one: 'a':(1)2 is 2 of them."""
    found = re.fullmatch(r"'([^']+)'(?::\(\d+\)(\d+))?", part.strip())
    if found is None or found[1] not in axes or (found[2] and axes[found[1]] % int(found[2])):
        raise unread(f"replica_groups={groups}")
    return int(found[2] or axes[found[1]])

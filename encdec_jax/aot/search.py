"""The meshes and remat policies that a topology, a model and a batch allow, best first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import product
from typing import Literal, get_args

from encdec_jax.aot.bounds import estimated, held, rewritten, waited
from encdec_jax.aot.compile import Compiled
from encdec_jax.aot.steps import Step
from encdec_jax.aot.topology import Topology
from encdec_jax.compute.limits import check_mesh
from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.errors import UserError
from encdec_jax.mesh import RULES, axis_of
from encdec_jax.model.declare import model
from encdec_jax.model.param import leaves
from encdec_jax.train.config import MeshConfig

Remat = Literal["none", "full", "dots"]
ROOM = 1.1  # times the estimate: what fits by less is often refused by the compiler (docs/ladder.md has both)
NEAR = 1.01  # times the least time: the estimate tells no better than that, and what sends less is the surer


def meshes(run: RunConfig, topology: Topology, step: Step = "train") -> Iterator[MeshConfig]:
    """Every mesh whose product is the topology's size and that divides the model's shapes and the batch's rows.

    One that leaves each device all heads, or all of the vocabulary, can run; the estimates do not know what it costs.
    """
    params = [param for _, param in leaves(model(run.model))]
    divisors = _divisors(topology.size)
    for tensor, fsdp, sequence in product(divisors, divisors, divisors if step == "train" else [1]):
        if topology.size % (tensor * fsdp * sequence):
            continue
        mesh = MeshConfig(topology.size // (tensor * fsdp * sequence), fsdp, tensor, sequence)
        if any(
            axis_of(axis, dim, asdict(mesh)) != RULES[axis]
            for param in params
            for dim, axis in zip(param.shape, param.axes, strict=True)
        ):
            continue
        try:
            check_mesh(replace(run, mesh=mesh), step)
        except UserError:
            continue
        yield mesh


def candidates(run: RunConfig, topology: Topology, step: Step) -> list[RunConfig]:
    """Runs with each mesh, and for training each remat policy, the most promising first.

    By estimates without a compiler: first those that fit with room to spare, then by time if all overlaps but what
    nothing can hide, then, where that is near the least, by time if nothing does.

    Raises:
      UserError: no mesh divides the topology, the shapes and the rows.
    """
    policies: tuple[Remat, ...] = get_args(Remat) if step == "train" else (run.model.remat,)
    runs = [
        replace(run, mesh=mesh, model=replace(run.model, remat=remat))
        for mesh in meshes(run, topology, step)
        for remat in policies
    ]
    if not runs:
        raise UserError(
            f"topology = {topology.name!r} is not accepted: no mesh of its {topology.size} devices divides the model's"
            f" heads, d_ff, vocabulary and d_model and the rows of train.batch_size = {run.train.batch_size}"
        )

    def judged(one: RunConfig) -> tuple[bool, float, float]:
        sequence = geometry(one).sequence
        time = estimated(topology.device, one, step, sequence)
        tight = ROOM * held(one, step, sequence) > topology.device.memory_bytes
        sent = waited(one, step, sequence)
        late = sent / topology.device.interconnect if sent else 0.0  # a chip alone has no links
        late += rewritten(one) / topology.device.bandwidth if step == "train" else 0.0
        return tight, time.overlapped + late, time.serial

    found = [(judged(one), one) for one in runs]
    _, least, _ = min(judgement for judgement, _ in found)

    def order(pair: tuple[tuple[bool, float, float], RunConfig]) -> tuple[bool, float, float]:
        (tight, time, serial), _ = pair
        return tight, max(time, NEAR * least), serial

    return [one for _, one in sorted(found, key=order)]


def rank(found: list[Compiled]) -> list[Compiled]:
    """Compiled steps, best first: those that fit, by their times if collectives overlap, then if they do not.

    Those that do not fit follow, by what they need.
    """

    def order(one: Compiled) -> tuple[bool, float, float]:
        if one.fits and one.times is not None:
            return False, *one.times
        return True, one.needs, 0.0

    return sorted(found, key=order)


def remedy(failed: Compiled) -> str:
    """What would make a step fit, by estimate: the first of some changes, each added to those before it."""
    run, step, topology = failed.run, failed.step, failed.topology
    before = held(run, step, geometry(run).sequence)
    changed: list[str] = []
    for text, changes in _changes(run, topology, step):
        run = changes
        changed.append(text)
        if failed.needs * held(run, step, geometry(run).sequence) / before <= failed.holds:
            return "by estimate it would with " + " and ".join(changed)
    return "a smaller batch, model or length would, or more devices"


def _changes(run: RunConfig, topology: Topology, step: Step) -> Iterator[tuple[str, RunConfig]]:
    if step == "train" and run.model.remat != "full":
        run = replace(run, model=replace(run.model, remat="full"))
        yield "model.remat=full", run
    kept = (run.mesh.tensor, run.mesh.sequence)
    whole = [mesh for mesh in meshes(run, topology, step) if (mesh.tensor, mesh.sequence) == kept]
    if whole and (widest := max(whole, key=lambda mesh: mesh.fsdp)).fsdp > run.mesh.fsdp:
        run = replace(run, mesh=widest)
        yield f"mesh {widest}", run
    batch, least = run.train.batch_size, geometry(run).unit
    while batch // 2 >= least and batch // 2 % least == 0:
        batch //= 2
        run = replace(run, train=replace(run.train, batch_size=batch))
        yield f"train.batch_size={batch}", run


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]

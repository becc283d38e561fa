"""Whether a run fits a device: at which batch and length, for training and for inference, beside matched decoders.

The bytes are those of `encdec_jax.compute.memory`, all on one device. No jax here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from encdec_jax.compute import memory
from encdec_jax.compute.devices import Device
from encdec_jax.compute.families import Family, reading
from encdec_jax.compute.ledger import count
from encdec_jax.compute.memory import InferBytes, TrainBytes
from encdec_jax.compute.shapes import solve
from encdec_jax.compute.sizes import limit
from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.data.objectives.named import resized
from encdec_jax.errors import UserError
from encdec_jax.model.blocks import source_stream
from encdec_jax.model.choice import resolve
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.declare import model as declared
from encdec_jax.model.param import leaves
from encdec_jax.train.config import MeshConfig

MOST = 2**24  # batches and lengths beyond it are not looked for


@dataclass(frozen=True)
class Rival:
    """A run to be fitted beside others.

    Attributes:
      label: what it is, for people.
      run: its configuration, on one device.
      mismatch: of the quantity that it was matched by, as a fraction; 0 for the run itself.
    """

    label: str
    run: RunConfig
    mismatch: float


@dataclass(frozen=True)
class Capacity:
    """One run on one device.

    Attributes:
      device: its name.
      memory: bytes that it has for the run.
      train: bytes of training at the run's own batch and lengths.
      train_batch: the most windows an update that fit; 0 where none does.
      train_length: the most tokens of a window that fit at the smallest batch; 0 where none does.
      infer: bytes of inference for one sequence at the run's own lengths.
      infer_batch: the most sequences at a time.
      infer_length: the most tokens of one sequence, source and target together in the run's proportion.
      remedies: what would make training fit where it does not; empty where it does, or where nothing tried helps.
    """

    device: str
    memory: int
    train: TrainBytes
    train_batch: int
    train_length: int
    infer: InferBytes
    infer_batch: int
    infer_length: int
    remedies: tuple[str, ...]

    @property
    def over(self) -> int:
        """Bytes of training that the device lacks; 0 where it fits."""
        return max(0, self.train.total - self.memory)


def rivals(run: RunConfig) -> list[Rival]:
    """The run, and beside an encoder-decoder the causal LMs of as many parameters, and of as many training FLOPs.

    They read the same windows, and have the heads of the run's decoder: head_dim, their number and how many share a
    key, so that caches differ by what is compared. Their width is the run's where it can be; layers and d_ff are solved
    for (`encdec_jax.compute.shapes`): parameters in all, and the ledger's 'mask' FLOPs of an update.

    Raises:
      UserError: no decoder comes near enough.
    """
    alone = replace(run, mesh=MeshConfig())
    found = [Rival(run.model.arch, alone, 0.0)]
    if source_stream(run.model) == "target":
        return found
    source, target = geometry(run).sequence
    family = Family("causal_lm", None)

    def as_run(model: ModelConfig) -> RunConfig:
        return reading(alone, model, source, target)

    def flops(model: ModelConfig) -> float:
        return count(as_run(model)).train_flops.mask / alone.train.batch_size

    ledger = count(alone)
    wanted: list[tuple[str, Callable[[ModelConfig], float], float]] = [
        ("decoder of equal parameters", _parameters, ledger.params.total),
        ("decoder of equal FLOPs", flops, ledger.train_flops.mask / alone.train.batch_size),
    ]
    allowed = limit(ledger.params.non_embedding)
    for label, measure, value in wanted:
        shape = solve(measure, value, family, run.model, limit=allowed, multiple=64, heads=run.model.decoder)
        if abs(shape.mismatch) > allowed:
            raise UserError(f"no {label} comes within {allowed:.0%}; the nearest is {shape.mismatch:+.1%} away")
        found.append(Rival(label, as_run(shape.model), shape.mismatch))
    return found


def capacity(run: RunConfig, device: Device, dtype: str) -> Capacity:
    """A run, all of it, on one device.

    Args:
      run: its mesh is left out of account.
      device: where.
      dtype: of weights and cache in inference; training's is the run's own.

    Raises:
      UserError: as `ledger.count` and `memory.inference`.
    """
    run = replace(run, model=resolve(run.model, device.platform), mesh=MeshConfig())
    shape, room = geometry(run), device.memory_bytes
    (source, target), unit = shape.sequence, shape.unit
    total = source + target

    def trains(batch: int) -> int:
        return memory.training(replace(run, train=replace(run.train, batch_size=batch * unit))).total

    def trains_long(length: int) -> int:
        smallest = replace(run, train=replace(run.train, batch_size=unit))
        return memory.training(_of_length(smallest, length)).total

    def infers(batch: int, length: int) -> InferBytes:
        first = max(1, length * source // total)
        return memory.inference(run.model, batch, first, max(1, length - first), dtype)

    train = memory.training(run)
    return Capacity(
        device=device.name,
        memory=room,
        train=train,
        train_batch=unit * _most(lambda n: trains(n) <= room),
        train_length=_most(lambda n: trains_long(n) <= room, least=8),
        infer=infers(1, total),
        infer_batch=_most(lambda n: infers(n, total).total <= room),
        infer_length=_most(lambda n: infers(1, n).total <= room, least=2),
        remedies=tuple(_remedies(run, room, unit)) if train.total > room else (),
    )


def _remedies(run: RunConfig, room: int, unit: int) -> list[str]:
    """What would make training fit, each on its own, and if none does all together; then how many devices."""
    half = _most(lambda n: _bytes(run, n * unit) <= room)
    changes = {
        "model.remat = 'full'": replace(run, model=replace(run.model, remat="full")),
        "model.dtype = 'bfloat16'": replace(run, model=replace(run.model, dtype="bfloat16")),
        "optim.name = 'adafactor'": replace(run, optim=replace(run.optim, name="adafactor")),
    }
    found = [f"train.batch_size = {half * unit}"] if half else []
    found += [text for text, changed in changes.items() if memory.training(changed).total <= room]
    if not found:
        model = replace(run.model, remat="full", dtype="bfloat16")
        least = replace(run, model=model, train=replace(run.train, batch_size=unit))
        if memory.training(least).total <= room:
            found.append(f"train.batch_size = {unit}, model.remat = 'full' and model.dtype = 'bfloat16' together")
    shards = next((n for n in (2**k for k in range(1, 13)) if _sharded(run, n) <= room), None)
    if shards is not None:
        found.append(f"mesh.fsdp = {shards}")
    return found


def _sharded(run: RunConfig, n: int) -> float:
    """Bytes a device on a mesh of n devices, fsdp; infinite where it does not divide the run."""
    widths = [stack.d_model for stack in (run.model.decoder, run.model.encoder) if stack]
    if run.train.batch_size % (geometry(run).unit * n) or any(width % n for width in widths):
        return float("inf")
    return memory.per_device(replace(run, mesh=MeshConfig(fsdp=n))).total


def _bytes(run: RunConfig, batch: int) -> int:
    return memory.training(replace(run, train=replace(run.train, batch_size=batch))).total


def _of_length(run: RunConfig, length: int) -> RunConfig:
    """The run on windows of another length, or on pairs of another length in the same proportion."""
    objective, data = resized(run.objective, run.data, length)
    return replace(run, data=data, objective=objective)


def _parameters(model: ModelConfig) -> float:
    return sum(param.size for _, param in leaves(declared(model)))


def _most(fits: Callable[[int], bool], least: int = 1) -> int:
    """The largest n of at least `least` and at most `MOST` that fits, if every smaller one does; 0 where none does."""
    if not fits(least):
        return 0
    good, bad = least, least * 2
    while bad <= MOST and fits(bad):
        good, bad = bad, bad * 2
    bad = min(bad, MOST + 1)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good

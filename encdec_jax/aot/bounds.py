"""Arithmetic bounds on a step's time, from FLOPs and bytes and a device's datasheet. No jax here."""

from __future__ import annotations

from dataclasses import dataclass

from encdec_jax.compute import memory, serving
from encdec_jax.compute.devices import Device
from encdec_jax.compute.ledger import count
from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.model.blocks import Plan, plans, source_stream
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.declare import edges, model
from encdec_jax.model.param import leaves


@dataclass(frozen=True)
class Bound:
    """Seconds that a step takes at least, if nothing is ever idle (the roofline of Williams et al. 2009).

    Attributes:
      compute: matrix products at the peak of the compute dtype.
      memory: every byte that is held at once, moved to or from device memory at full bandwidth: arguments read, outputs
        written, temporaries both.
      collectives: bytes on the wire over all of a device's links at once.
    """

    compute: float
    memory: float
    collectives: float

    @property
    def overlapped(self) -> float:
        """If the three go on at the same time: the bound."""
        return max(self.compute, self.memory, self.collectives)

    @property
    def serial(self) -> float:
        """If collectives wait for compute and compute for them."""
        return max(self.compute, self.memory) + self.collectives


@dataclass(frozen=True)
class Counted:
    """The ledger's FLOPs of a step on each device.

    Attributes:
      dense: as a plain implementation computes attention, recomputation included.
      mask: as the mask requires, recomputation included.
      model: as the mask requires, without recomputation and padding: what a utilisation (MFU) is of.
    """

    dense: float
    mask: float
    model: float


def counted(run: RunConfig, step: str, lengths: tuple[int, int]) -> Counted:
    """What the ledger says of one step, divided by the devices of the run's mesh.

    Args:
      run: the configuration.
      step: 'train', 'prefill', or 'decode' (its first token: the mask shows one target key).
      lengths: tokens of source and target at inference.
    """
    ledger = count(run, segments=geometry(run).layout.segments)  # compiled for full rows, whatever packs them
    if step == "train":
        parts, rows = [ledger.train_flops, ledger.recompute, ledger.padding], 1
    else:
        source, target = lengths
        flops = serving.prefill(run.model, source)
        if step == "decode":
            flops = serving.decode(run.model, source, 0, target)
        parts, rows = [flops], ledger.rows
    dense, mask = (rows * sum(getattr(part, kind) for part in parts) / run.mesh.size for kind in ("dense", "mask"))
    return Counted(dense, mask, rows * parts[0].mask / run.mesh.size)


def bound(device: Device, dtype: str, flops: float, held: float, wire: float) -> Bound:
    """The bound of a step on one device.

    Args:
      device: with its peaks.
      dtype: of the compute.
      flops: of matrix products.
      held: bytes moved to or from memory.
      wire: bytes a device sends.
    """
    return Bound(flops / device.peak[dtype], held / device.bandwidth, wire / device.interconnect if wire else 0.0)


def held(run: RunConfig, step: str, lengths: tuple[int, int]) -> float:
    """Bytes that a step holds on each device, estimated without a compiler."""
    mesh, config = run.mesh, run.model
    if step == "train":
        return memory.per_device(run).total
    whole = memory.inference(config, geometry(run).rows, *lengths, config.dtype)
    return whole.weights / (mesh.fsdp * mesh.tensor) + (whole.cache + whole.activations) / mesh.size


def wire(run: RunConfig, step: str, lengths: tuple[int, int]) -> float:
    """Bytes that a device sends in a step, estimated without a compiler.

    'fsdp' gathers the weights forward and backward, tables once, and scatters their gradients; 'data' and 'sequence'
    add up gradients; and what is `waited` for.
    """
    mesh, config = run.mesh, run.model
    sizes = {path: _width(config) * param.size / mesh.tensor for path, param in leaves(model(config))}
    weights, tables = sum(sizes.values()), sum(size for path, size in sizes.items() if path[-1] == "table")
    sent = weights * (mesh.fsdp - 1) / mesh.fsdp
    if step == "train":
        sent += (2 * weights - tables) * (mesh.fsdp - 1) / mesh.fsdp
        copies = mesh.data * mesh.sequence
        sent += 2 * weights / mesh.fsdp * (copies - 1) / copies
    return sent + waited(run, step, lengths)


def waited(run: RunConfig, step: str, lengths: tuple[int, int]) -> float:
    """The part of `wire` that hardly anything can hide, for what comes next waits for it.

    'tensor' adds up activations behind each sublayer, forward, backward, and where remat repeats it, and once behind
    the embedding and the gradient of the logits. 'sequence' gathers each layer's keys and values forward and where
    remat repeats it, and scatters their gradients, in float32 unless a fused kernel makes them.
    """
    mesh, config, width = run.mesh, run.model, _width(run.model)
    row = geometry(run).layout
    rows = run.train.batch_size / row.windows / mesh.shards
    source, target = (row.source, row.target) if step == "train" else lengths
    if step == "decode":
        source, target = 0, 1
    elif step == "prefill":
        source, target = (source, 0) if source_stream(config) == "source" else (0, source)
    encoder = config.encoder or config.decoder
    found = plans(config)
    states = _sublayers(found.get("encoder", found["decoder"])) * encoder.d_model * source
    states += _sublayers(found["decoder"]) * config.decoder.d_model * target
    passes = (3 if config.remat == "full" else 2) if step == "train" else 1
    made = [edge for edge in edges(config) if not edge.kept]
    keys = sum(edge.layers * edge.kv_heads * edge.head_dim * edge.keys(source, target) for edge in made)
    gathers = passes - 1 + (config.remat == "dots") if step == "train" else 1
    scattered = (width if memory.fused(config) else 4) if step == "train" else 0
    sent = 2 * rows * keys / mesh.tensor * (gathers * width + scattered) * (mesh.sequence - 1) / mesh.sequence
    embedded = encoder.d_model * source + config.decoder.d_model * target * (2 if step == "train" else 1)
    summed = 2 * rows * width * (passes * states + embedded) * (mesh.tensor - 1) / mesh.tensor
    return sent + summed / mesh.sequence


def rewritten(run: RunConfig) -> float:
    """Bytes that an update moves for weights, gradients and moments, each read and written: no product is beside it."""
    held = memory.per_device(run)
    return 2.0 * (held.weights + held.gradients + held.moments)


def estimated(device: Device, run: RunConfig, step: str, lengths: tuple[int, int]) -> Bound:
    """The bound as far as it can be told without a compiler."""
    flops = counted(run, step, lengths).dense
    return bound(device, run.model.dtype, flops, held(run, step, lengths), wire(run, step, lengths))


def _width(config: ModelConfig) -> int:
    """Bytes of a number in the compute dtype."""
    return 2 if config.dtype == "bfloat16" else 4


def _sublayers(plan: Plan) -> int:
    """Of a stack, all layers together."""
    return sum(segment.times * len(spec) for _, segment, spec in plan.slots())

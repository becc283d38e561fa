"""Bytes: exact for weights, gradients, optimizer and caches, an estimate for activations. No jax here.

What the backward pass keeps of the blocks (`kept`) is what `jax.vjp` through the real model keeps, to 1 %, with the JAX
that is installed. What it needs beside them is a guess that was set on a CPU. Gradients and activations over the
temporaries that XLA allots there, for d_model 128, 4 layers, 8 windows of 256, vocabulary 1024, float32, scanned, plain
attention: least and most of all architectures, remat 'none' 0.95-0.99, 'full' 0.94-1.14; of causal_lm and enc_dec,
'dots' 1.22 and 1.13, unrolled 1.16 and 1.12. In bfloat16 a CPU allots more than is estimated (causal_lm: 0.63).

On a TPU it serves large models (docs/ladder.md has both numbers). Three steps of 1B parameters, bfloat16, splash
attention, on 256 v5e take 0.99 and 1.01 ('none', two meshes) and 1.36 times ('full') what is estimated in all; ten with
remat, of 3B and 8B, 1.02 to 1.31. Encoder-decoders of 1B without remat take 1.44 (v5e) and 1.35 times (v5p): not
understood. One of 150M on v5e:2x2 takes 1.24 times, and its loops stack up what is kept here. Small ones it does
not. Earlier compiles for a v5e, bfloat16, plain attention:
causal_lm of d_model 1024, 8 layers, 32 windows of 512, vocabulary 4096, 'full': 0.93. Of d_model 256, 4 layers, 8
windows of 256, 'full' 9.4. Unrolled, d_model 512, 2 layers, 4 windows of 256, vocabulary 512, 'none': enc_dec 7.6, and
causal_lm, for which the compiler reports no temporaries at all where 158 MB are estimated. So it is far too high there;
`encdec compile` says what a TPU takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import ceil, prod

from encdec_jax.compute.serving import BYTES, cache_bytes
from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.errors import require
from encdec_jax.mesh import axis_of, logit_chunks
from encdec_jax.model.blocks import Plan, plans
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.declare import edges, model
from encdec_jax.model.edge import Edge
from encdec_jax.model.lazy import jax_version, tanh_keeps
from encdec_jax.model.param import Param, StreamName, leaves
from encdec_jax.model.parts.again import lean
from encdec_jax.model.parts.positions import POSITIONS
from encdec_jax.model.period import copies, stride
from encdec_jax.model.stages import slots
from encdec_jax.model.sub import BlockSpec
from encdec_jax.train.config import MeshConfig

# What a layer holds as it goes backwards under remat, over what it would keep without: set by hand to 1.3 to 1.6 that
# XLA allots on a CPU (d_model 128, 4 layers, 8 windows of 256, float32, remat 'full', all seven architectures).
RECOMPUTED = 1.5
# The newer JAX, the fewer arrays it keeps twice for the backward pass.
SCAN_SINCE = (0, 11, 1)  # what a scan emits and needs itself is one array
FACTORED_FROM = 128  # optax.scale_by_factored_rms factors a moment whose two largest dimensions are at least this


@dataclass(frozen=True)
class TrainBytes:
    """Bytes of a training step on one device.

    Attributes:
      weights: float32.
      gradients: float32; twice with microbatches, the sum and the addend.
      moments: of the optimizer, float32.
      activations: what the backward pass keeps, and the most it needs beside that at once. An estimate.
    """

    weights: int
    gradients: int
    moments: int
    activations: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.moments + self.activations


@dataclass(frozen=True)
class InferBytes:
    """Bytes of inference on one device.

    Attributes:
      weights, cache: in the type that was asked for.
      activations: the most that a layer needs at once, over prefill and decoding. An estimate.
    """

    weights: int
    cache: int
    activations: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.cache + self.activations


def training(run: RunConfig) -> TrainBytes:
    """Bytes of a run's update, all on one device.

    Raises:
      UserError: architecture, objective and data do not go together.
    """
    return per_device(replace(run, mesh=MeshConfig()))


def per_device(run: RunConfig) -> TrainBytes:
    """Bytes of a run's update on each device of its mesh.

    Raises:
      UserError: architecture, objective and data do not go together.
    """
    params = [param for _, param in leaves(model(run.model))]
    weights = sum(4 * param.size // _divided(param, run.mesh) for param in params)
    moments = 2 * weights if run.optim.name == "adamw" else sum(_factored(param, run.mesh) for param in params)
    gradients = weights * (2 if run.train.accumulate > 1 else 1)
    return TrainBytes(weights, gradients, moments, _activations(run))


def inference(config: ModelConfig, batch: int, source: int, target: int, dtype: str) -> InferBytes:
    """Bytes of decoding `target` tokens for each of `batch` sources, all on one device.

    Args:
      config: of the model.
      batch: sequences at a time.
      source, target: tokens of each.
      dtype: of weights and cache, a name of `BYTES`; integers are computed with as bfloat16.

    Raises:
      UserError: a number is not accepted, or the type is unknown.
    """
    require(batch >= 1, "batch", batch, "at least 1 sequence")
    cache = batch * cache_bytes(config, source, target, dtype).total
    weights = sum(param.size for _, param in leaves(model(config)))
    compute = 4 if dtype == "float32" else 2
    stacks = [config.decoder] if config.encoder is None else [config.encoder]
    prefilled = batch * source
    most = 0
    for size in stacks:
        heads = size.n_heads * size.head_dim
        scores = 0 if fused(config) else 2 * 4 * batch * size.n_heads * source**2
        attention = scores + prefilled * compute * (2 * size.d_model + 2 * heads)
        mlp = prefilled * compute * (2 * size.d_model + 3 * size.d_ff)
        most = max(most, attention, mlp)
    return InferBytes(ceil(weights * BYTES[dtype]), cache, max(most, 4 * batch * config.outputs))


def fused(config: ModelConfig) -> bool:
    """Whether attention keeps no scores. 'auto' counts as plain: what it comes to depends on the device."""
    return config.attention in ("splash", "cudnn")


def _factored(param: Param, mesh: MeshConfig) -> int:
    """Bytes of optax's factored second moments, which are whole on every device unless they keep their shape.

    Of the three arrays that optax holds for each parameter, those that are not used have one element.
    """
    *_, second, largest = (1, *sorted(param.shape))
    if len(param.shape) < 2 or second < FACTORED_FROM:
        return 4 * (param.size // _divided(param, mesh) + 2)
    return 4 * (param.size // largest + param.size // second + 1)


def _divided(param: Param, mesh: MeshConfig) -> int:
    """Parts that a mesh divides a parameter into."""
    axes, sizes = zip(param.shape, param.axes, strict=True), asdict(mesh)
    return prod(sizes[name] for dim, axis in axes if (name := axis_of(axis, dim, sizes)) is not None)


@dataclass(frozen=True)
class _Kept:
    """Bytes of one layer's pass over one stream that are kept for the backward pass, under each policy of remat."""

    none: float
    dots: float
    full: float


def kept(run: RunConfig) -> int:
    """Bytes of a device that layers keep for the backward pass: the residuals that a scan over them stacks up.

    Raises:
      UserError: architecture, objective and data do not go together.
    """
    config, mesh = run.model, run.mesh
    stacked = sum(times * getattr(layer, config.remat) for times, layer in _passes(run))
    if config.remat == "none" and config.dtype == "bfloat16":  # and the weights, as they were multiplied with
        passes = {side: len(plan.scope.streams) for side, plan in plans(config).items()}  # merged keys are of one pass
        matrices = [(path[0], param) for path, param in leaves(model(config)) if param.matmul and path[0] in passes]
        for side, param in matrices:
            stacked += 2 * param.size / _divided(param, mesh) * min(passes[side], len(set(param.sees)))
    return ceil(stacked)


def _activations(run: RunConfig) -> int:
    """Estimated bytes that a device holds beside weights, gradients and moments when it holds most.

    That is either behind the forward pass, with the logits of a chunk and their gradient, or while a layer goes
    backwards: then that layer's gradients, and what it recomputes, are held on top of what is kept. Of several chunks
    the gradient of the states is held, and that of the head, which is not divided over fsdp while it is summed.
    """
    config, mesh, scored = run.model, run.mesh, geometry(run).layout.scored
    chunks = logit_chunks(_rows(run) * mesh.shards, scored, config.outputs, asdict(mesh))
    here = scored / mesh.sequence
    logits = 2 * 4 * _rows(run) * ceil(here / chunks) * config.outputs / mesh.tensor
    if chunks > 1:
        width = config.decoder.d_model
        logits += (
            4 * config.vocab_size / mesh.tensor * width
            + BYTES[config.dtype] * _rows(run) * here * width * config.softmaxes
        )
    beside = kept(run) + biases(run)
    layer = max(layer.none for _, layer in _passes(run)) * (1 if config.remat == "none" else RECOMPUTED)
    return beside + ceil(max(logits, layer))


def biases(run: RunConfig) -> int:
    """Bytes of a device for the biases of scores that a stack's layers share, from its first to its last.

    The biases themselves where layers are computed again, and their gradient, which is as large, where they are
    learnt; and the rows of the table that they are looked up in.
    """
    row, found = geometry(run).layout, 0.0
    length: dict[StreamName, int] = {"source": row.source, "target": row.target}
    shared = {(edge.path[0], edge.heads, edge.reads) for edge in edges(run.model)}
    for side, heads, reads in shared:
        scope, position = plans(run.model)[side].scope, POSITIONS[reads.position]
        queries, keys = (slots(length[n], m) for n, m in zip((reads.query, reads.key), reads.strides, strict=True))
        pairs = 4 * _rows(run) * queries / run.mesh.sequence * keys * position.biased
        learnt, by_layer = position.declare(scope), position.declare_layer(scope)
        heads_here = heads if heads % run.mesh.tensor else heads / run.mesh.tensor
        whole = not by_layer and (learnt or run.model.remat != "none")
        found += pairs * ((heads_here if whole else 0) + (1 if learnt or by_layer else 0))
    return ceil(found)


def _rows(run: RunConfig) -> float:
    """Rows of a microbatch on one device."""
    return run.train.batch_size / geometry(run).layout.windows / run.train.accumulate / run.mesh.shards


def _passes(run: RunConfig) -> Iterator[tuple[int, _Kept]]:
    """Each block of each stack for each stream through it: how often, and what a device keeps of one layer."""
    c, rows, mesh, row = BYTES[run.model.dtype], _rows(run), run.mesh, geometry(run).layout
    length: dict[StreamName, int] = {"source": row.source, "target": row.target}
    for side, plan in plans(run.model).items():
        for stream in plan.scope.streams:
            for path, segment, spec in plan.slots():
                own = [e for e in edges(run.model) if e.path[:-1] == (side, *path) and e.query == stream]
                once = copies(segment) / segment.times
                one = _layer(plan, spec, own, length, stream, rows, mesh, once)
                # What the target reads layer by layer is emitted too; where it is the layer's input, it is kept anyway.
                reading = [e for e in edges(run.model) if e.reads.states == "layer"]
                here = rows * slots(length[stream], stride(spec, stream)) / mesh.sequence
                emitted = c * plan.scope.size.d_model * here if reading and stream == "source" else 0
                if reading and plan.unread == stream and jax_version() >= SCAN_SINCE:
                    # A norm keeps the layer's input in the dtype that it is emitted in.
                    alike = c == 4 or lean(run.model)
                    one, emitted = replace(one, none=one.none - emitted * alike), 0
                yield segment.times, _Kept(one.none, one.dots + emitted, one.full + emitted)


def _layer(
    plan: Plan,
    spec: BlockSpec,
    own: list[Edge],
    length: dict[StreamName, int],
    stream: StreamName,
    rows: float,
    mesh: MeshConfig,
    once: float,
) -> _Kept:
    """What is kept of one layer that a stream goes through, and whose edges are `own`.

    Of keys and values of another pass's states it keeps the share `once`: layers of the same weights have one copy.
    Of tokens that a mesh divides each device keeps its own, but for keys and values that it has gathered.
    """
    config, size, tensor, parts = plan.scope.config, plan.scope.size, mesh.tensor, mesh.sequence
    at = slots(length[stream], stride(spec, stream))
    c, d, n = BYTES[config.dtype], size.d_model, rows * at / parts
    heads, kv_heads = (n if n % tensor else n / tensor for n in (size.n_heads, size.n_kv_heads))
    none, dots = 0.0, n * d * c
    full = dots
    within = c if lean(config) else 8  # of a norm: its input, and else what it scales, in float32
    for sub in spec:
        # A norm keeps what it is made of, and what it gives, unless a sum alone reads it. A layer that normalises its
        # memory too, or joins it to its keys, keeps that as well.
        none += sum(name is not None for name in (sub.in_norm, sub.out_norm)) * n * d * (within + c)
        none += n * d * within if sub.branch_norm is not None else 0
        looks = [edge for edge in own if edge.path[-1] == sub.name]
        if looks and looks[0].reads.whole:
            none += 2 * c * n * length[stream]
        elif looks:
            seen = {edge: slots(length[edge.key], edge.reads.strides[1]) for edge in looks}
            held = sum(seen.values())
            keys = rows * held
            layerwise = any(edge.reads.states == "layer" for edge in looks)
            if sub.memory_norm not in (None, sub.in_norm):
                none += keys / parts * plan.scope.memory * (within + c)
            if len(looks) > 1:
                none += d * (keys / parts * c + (within * (keys / parts - n) if layerwise else 0))
            made = rows * sum(seen[edge] * (once if edge.reads.memory else 1) for edge in looks if not edge.kept)
            repeated = heads if parts > 1 and not fused(config) else kv_heads
            none += size.head_dim * (c * (heads * n + 2 * repeated * made) + heads * n * (4 + c))
            none += 0 if fused(config) else heads * n * held * (4 if c == 4 else 4 + c)
            none += heads * n * held * _of_scores(config)
            none += size.head_dim * _of_heads(config, heads * n, kv_heads * keys)
            dots += size.head_dim * c * (heads * n + 2 * kv_heads * made / parts) + n * d * c
        none += n * d if config.residual_dropout else 0
        kept = sub.layer.kept(plan.scope, tensor, at)
        none, dots = none + kept.none * c * n, dots + kept.dots * c * n
    return _Kept(none, dots, full)


def _of_scores(config: ModelConfig) -> float:
    """Bytes a score that caps and dropout keep."""
    dropped = 1 + (4 if config.dtype == "float32" else 0) if config.attention_dropout else 0
    return (4 * tanh_keeps() if config.score_cap else 0) + dropped


def _of_heads(config: ModelConfig, queries: float, keys: float) -> float:
    """Bytes that norms over head_dim keep, over head_dim: of so many queries' and keys' heads."""
    both = 8 if config.qk_scaled_norm else 4 if config.qk_norm else 0
    return both * (queries + keys) + (4 * keys if config.v_norm else 0) + (4 * queries if config.mixed_norm else 0)

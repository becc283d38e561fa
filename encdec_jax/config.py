"""The resolved configuration of one run: frozen dataclasses, checked when they are made.

At the edge a configuration is data (an ml_collections ConfigDict, a JSON object); `from_dict` turns it into a
`RunConfig` and refuses unknown fields. Durations are in tokens, lengths in tokens, learning rates per update.
This module imports no jax: planning a sweep must start in under a second.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from encdec_jax.errors import UserError, require
from encdec_jax.model.arch import ARCHS, Arch
from encdec_jax.resolve import build


def later(default: Any) -> Any:
    """A field that was added when runs existed already: at its default it does not enter `run_id`, so theirs stay."""
    return field(default=default, metadata={"later": True})


@dataclass(frozen=True)
class StackConfig:
    """Depth and width of one stack of blocks.

    Attributes:
      n_layers: blocks.
      d_model: width of the residual stream.
      n_heads, n_kv_heads: query heads, and key and value heads that groups of them share.
      head_dim: width of a head, free of d_model / n_heads.
      d_ff: width inside the MLP.
    """

    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int

    def __post_init__(self) -> None:
        for name in ("n_layers", "d_model", "n_heads", "n_kv_heads", "head_dim", "d_ff"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number of at least 1")
        require(
            self.n_heads % self.n_kv_heads == 0,
            "n_kv_heads",
            self.n_kv_heads,
            f"a divisor of n_heads = {self.n_heads}",
        )
        require(self.head_dim % 2 == 0, "head_dim", self.head_dim, "an even number (RoPE turns pairs)")


@dataclass(frozen=True)
class ModelConfig:
    """One model: a named architecture, its stacks, and what its blocks are made of.

    Attributes:
      arch: a name of `encdec_jax.model.arch.ARCHS`.
      vocab_size: rows of each embedding table.
      decoder: the stack that reads the target (for one-stream architectures, the only stack).
      encoder: the stack that reads the source; None where the source has no stream of its own or no blocks of its own.
      norm: where the RMSNorm of a sublayer stands.
      position: how positions enter attention.
      rope_theta: the base of RoPE's wavelengths.
      mlp: the feed-forward sublayer.
      qk_norm: parameter-free RMSNorm of queries and keys over head_dim (RedLLM, arXiv 2510.26622, section 3).
      tie: which of source embedding, target embedding and output head are one table.
      scan: apply blocks with `lax.scan` (one compiled body) instead of unrolled.
      remat: what the backward pass recomputes: nothing, everything, or all but the matmuls' outputs.
      dtype: of the compute; weights, norms, softmax and losses are always float32.
      attention: what computes attention: plain XLA, Pallas splash attention (TPU), cuDNN flash attention (GPU), or
        'auto', the fastest that the device has and the model allows.
      base_width: 0 for the standard parametrization; else the d_model at which muP's is the same as the standard one,
        so that `optim.lr` is the learning rate of that width and carries over to others (`encdec_jax.train.transfer`).
    """

    arch: str
    vocab_size: int
    decoder: StackConfig
    encoder: StackConfig | None = None
    norm: Literal["pre"] = "pre"
    position: Literal["rope"] = "rope"
    rope_theta: float = 10_000.0
    mlp: Literal["swiglu", "gelu"] = "swiglu"
    qk_norm: bool = False
    tie: Literal["all", "inputs", "decoder", "none"] = "all"
    scan: bool = True
    remat: Literal["none", "full", "dots"] = "none"
    dtype: Literal["float32", "bfloat16"] = "float32"
    attention: Literal["auto", "plain", "splash", "cudnn"] = later("auto")
    base_width: int = later(0)

    @property
    def choices(self) -> Arch:
        """The orthogonal choices behind the architecture's name."""
        return ARCHS[self.arch]

    def __post_init__(self) -> None:
        require(self.arch in ARCHS, "model.arch", self.arch, "one of " + ", ".join(ARCHS))
        require(self.vocab_size >= 2, "model.vocab_size", self.vocab_size, "at least 2")
        require(self.base_width >= 0, "model.base_width", self.base_width, "at least 0 (0: no muP)")
        if not self.choices.own_encoder:
            require(self.encoder is None, "model.encoder", "a stack", f"None: {self.arch} has one stack of blocks")
            return
        if self.encoder is None:
            raise UserError(f"model.encoder = None is not accepted: {self.arch} needs an encoder stack")
        if self.choices.reads == "layers":
            require(
                self.encoder.n_layers == self.decoder.n_layers,
                "model.encoder.n_layers",
                self.encoder.n_layers,
                f"model.decoder.n_layers = {self.decoder.n_layers}, because {self.arch} reads layer by layer",
            )
        if self.tie in ("all", "inputs"):
            require(
                self.encoder.d_model == self.decoder.d_model,
                "model.tie",
                self.tie,
                f"'decoder' or 'none', because the widths differ ({self.encoder.d_model} and {self.decoder.d_model})",
            )


@dataclass(frozen=True)
class DataConfig:
    """What is read. Lengths are tokens.

    Attributes:
      task: a task of the token cache (`encdec prepare --task NAME`).
      vocab: 'bytes', or the name of a SentencePiece vocabulary that `prepare` trained.
      length: tokens of one window of text (language-model objectives).
      source_length, target_length: room for packed pairs (objective 'seq2seq').
      split, eval_split: splits of the task to train on and to score on.
    """

    task: str = "bible_en"
    vocab: str = "bytes"
    length: int = 256
    source_length: int = 256
    target_length: int = 256
    split: str = "train"
    eval_split: str = "validation"

    def __post_init__(self) -> None:
        require(self.length >= 4, "data.length", self.length, "at least 4 tokens")
        for name in ("source_length", "target_length"):
            require(getattr(self, name) >= 2, f"data.{name}", getattr(self, name), "at least 2 tokens")


@dataclass(frozen=True)
class ObjectiveConfig:
    """How a window becomes source, target and loss weights (`encdec_jax.data.objectives`).

    Attributes:
      name: the objective.
      prefix: of 'prefix_lm': 'half' cuts every window in the middle, 'fixed' behind `prefix_length` tokens, 'random'
        draws the cut.
      prefix_length: tokens of the source, of the 'fixed' cut only.
      noise_density, mean_span: of 'span_corruption' (T5, arXiv 1910.10683, section 3.1.4).
    """

    name: Literal["causal_lm", "prefix_lm", "span_corruption", "seq2seq"] = "causal_lm"
    prefix: Literal["half", "fixed", "random"] = "half"
    noise_density: float = 0.15
    mean_span: float = 3.0
    prefix_length: int = later(0)

    def __post_init__(self) -> None:
        require(0 < self.noise_density < 1, "objective.noise_density", self.noise_density, "between 0 and 1")
        require(self.mean_span >= 1, "objective.mean_span", self.mean_span, "at least 1 token")
        fixed = self.prefix == "fixed"
        accepted = "at least 1 token" if fixed else f"0, because objective.prefix = {self.prefix!r} takes no length"
        require((self.prefix_length >= 1) == fixed, "objective.prefix_length", self.prefix_length, accepted)


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and learning-rate schedule. Durations are tokens, as fractions of training.

    Attributes:
      name: AdamW, or Adafactor as T5 used it (its lr is relative to the size of each parameter).
      lr: the peak learning rate.
      schedule: behind the warm-up: half a cosine; stable, then a linear decay; inverse square root; or constant.
      warmup: fraction of the training tokens in linear warm-up.
      decay: fraction of the training tokens in the final linear decay of 'wsd'.
      final: the last learning rate over the peak ('cosine' and 'wsd').
      b1, b2, eps: of AdamW.
      weight_decay: decoupled, times the learning rate; only on parameters that are matrices by their declared axes.
      clip_norm: largest global norm of the gradient; 0 for no clipping.
    """

    name: Literal["adamw", "adafactor"] = "adamw"
    lr: float = 1e-3
    schedule: Literal["cosine", "wsd", "rsqrt", "constant"] = "cosine"
    warmup: float = 0.1
    decay: float = 0.2
    final: float = 0.1
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        require(self.lr > 0, "optim.lr", self.lr, "above 0")
        require(0 <= self.warmup < 1, "optim.warmup", self.warmup, "a fraction of training in [0, 1)")
        require(0 <= self.decay <= 1, "optim.decay", self.decay, "a fraction of training in [0, 1]")
        require(0 <= self.final <= 1, "optim.final", self.final, "a fraction of lr in [0, 1]")
        require(0 <= self.b1 < 1, "optim.b1", self.b1, "in [0, 1)")
        require(0 <= self.b2 < 1, "optim.b2", self.b2, "in [0, 1)")
        require(self.eps > 0, "optim.eps", self.eps, "above 0")
        require(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, "at least 0")
        require(self.clip_norm >= 0, "optim.clip_norm", self.clip_norm, "at least 0 (0: no clipping)")


@dataclass(frozen=True)
class TrainConfig:
    """How long and in which steps.

    Attributes:
      tokens: to train on: tokens of text windows, source and target together, each counted once.
      batch_size: windows (or packed rows) an update.
      accumulate: microbatches an update is summed over.
      steps_per_call: updates in one jitted `lax.scan`; also the grain of logging and checkpoints.
      checkpoint_every: tokens between checkpoints; 0 for none but the last.
      z_loss: weight of log(Z)^2 (PaLM, arXiv 2204.02311, section 5).
      seed: of the data order and of the initialisation.
    """

    tokens: int = 1_000_000
    batch_size: int = 16
    accumulate: int = 1
    steps_per_call: int = 10
    checkpoint_every: int = 0
    z_loss: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tokens", "batch_size", "accumulate", "steps_per_call"):
            require(getattr(self, name) >= 1, f"train.{name}", getattr(self, name), "a whole number of at least 1")
        require(self.checkpoint_every >= 0, "train.checkpoint_every", self.checkpoint_every, "at least 0 tokens")
        require(self.z_loss >= 0, "train.z_loss", self.z_loss, "at least 0")
        require(
            self.batch_size % self.accumulate == 0,
            "train.accumulate",
            self.accumulate,
            f"a divisor of train.batch_size = {self.batch_size}",
        )


@dataclass(frozen=True)
class EvalConfig:
    """The fair loss: held-out windows of `prefix` + `suffix` tokens, scored on the suffix alone.

    Attributes:
      prefix, suffix: tokens of each part of a window.
      windows: held-out windows scored.
      batch_size: windows scored at a time.
    """

    prefix: int = 128
    suffix: int = 128
    windows: int = 512
    batch_size: int = 64

    def __post_init__(self) -> None:
        for name in ("prefix", "suffix", "windows", "batch_size"):
            require(getattr(self, name) >= 1, f"evaluate.{name}", getattr(self, name), "a whole number of at least 1")


@dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis of the mesh.

    Attributes:
      data: divides the rows of a batch.
      fsdp: divides the rows, and d_model of every weight and of its optimizer state.
      tensor: divides heads, d_ff and vocabulary.
    """

    data: int = 1
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        for name in ("data", "fsdp", "tensor"):
            require(getattr(self, name) >= 1, f"mesh.{name}", getattr(self, name), "a whole number of at least 1")


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's result. `budget_flops` is the training FLOPs it was matched to, if any."""

    model: ModelConfig
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvalConfig = field(default_factory=EvalConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    budget_flops: float | None = None

    def __post_init__(self) -> None:
        require(
            not (self.model.choices.own_stream and self.objective.name == "causal_lm"),
            "objective.name",
            self.objective.name,
            f"an objective with a source, because {self.model.arch} reads one",
        )
        require(
            self.objective.name != "prefix_lm" or self.objective.prefix_length < self.data.length,
            "objective.prefix_length",
            self.objective.prefix_length,
            f"less than data.length = {self.data.length}",
        )


def to_dict(config: Any) -> dict[str, Any]:
    """A frozen configuration as plain nested data, ready for JSON or a ConfigDict."""
    return dataclasses.asdict(config)


def from_dict(data: Mapping[str, Any]) -> RunConfig:
    """A `RunConfig` from nested data.

    Raises:
      UserError: a field is unknown, missing, of the wrong type, or its value is not accepted.
    """
    return build(RunConfig, data)

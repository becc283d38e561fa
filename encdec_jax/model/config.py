"""What a model is: its architecture, its stacks and what their blocks are made of. No jax here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from encdec_jax.errors import UserError, require
from encdec_jax.model.arch import ARCHS, Arch
from encdec_jax.ranges import Range, check_ranges
from encdec_jax.resolve import execution, later


@dataclass(frozen=True)
class StackConfig:
    """Depth and width of one stack of blocks.

    Attributes:
      n_layers: blocks, at least 1.
      d_model: width of the residual stream, at least 1.
      n_heads: query heads, at least 1.
      n_kv_heads: key and value heads, which groups of query heads share: a divisor of n_heads.
      head_dim: width of a head, free of d_model / n_heads; an even number with RoPE.
      d_ff: width inside the MLP, at least 1.
      window: keys less than so many positions away are all that self-attention sees; at least 1, or 0 for no limit.
      global_every: the last of so many layers sees all the same; at least 1, or 0 for none.
      cross_every: the last of so many layers reads the source, the others don't; at least 1.
      distinct: layers that have weights of their own; those behind them repeat these in turn, with the same weights
        (1: Universal Transformer, arXiv 1807.03819; ALBERT, arXiv 1909.11942). A divisor of n_layers; 0 for all.
    """

    n_layers: Annotated[int, Range(1, 10_000)]
    d_model: Annotated[int, Range(1, 2**20)]
    n_heads: Annotated[int, Range(1, 2**16)]
    n_kv_heads: Annotated[int, Range(1, 2**16)]
    head_dim: Annotated[int, Range(1, 2**16)]
    d_ff: Annotated[int, Range(1, 2**24)]
    window: Annotated[int, Range(0, 2**24)] = later(0)
    global_every: Annotated[int, Range(0, 2**16)] = later(0)
    cross_every: Annotated[int, Range(1, 2**16)] = later(1)
    distinct: Annotated[int, Range(0, 10_000)] = later(0)

    def __post_init__(self) -> None:
        check_ranges(self)
        require(
            self.n_heads % self.n_kv_heads == 0,
            "n_kv_heads",
            self.n_kv_heads,
            f"a divisor of n_heads = {self.n_heads}",
        )
        divides = not self.distinct or self.n_layers % self.distinct == 0
        require(divides, "distinct", self.distinct, f"0, or a divisor of n_layers = {self.n_layers}")
        limited = self.window > 0 or self.global_every == 0
        require(limited, "global_every", self.global_every, "0, because without a window every layer sees all")


@dataclass(frozen=True)
class ModelConfig:
    """One model: a named architecture, its stacks, and what its blocks are made of.

    Attributes:
      arch: a name of `encdec_jax.model.arch.ARCHS`.
      vocab_size: rows of each embedding table: at least the ids of the vocabulary and of the objective (bytes: 259).
      decoder: the stack that reads the target (for one-stream architectures, the only stack).
      encoder: the stack that reads the source; None where the source has no stream of its own or no blocks of its own.
      rope_theta: the base of RoPE's wavelengths, in tokens, at least 1.
      mlp: the feed-forward sublayer: SwiGLU, or GELU in its tanh form (as GPT-2's and T5 v1.1's).
      qk_norm: parameter-free RMSNorm of queries and keys over head_dim (RedLLM, arXiv 2510.26622, section 3).
      tie: which of source embedding, target embedding and output head are one table.
      scan: apply blocks with `lax.scan` (one compiled body) instead of unrolled.
      remat: what the backward pass recomputes: nothing, everything, or all but the matmuls' outputs.
      dtype: of the compute; weights, norms, softmax and losses are always float32.
      attention: what computes attention: plain XLA, Pallas splash attention (TPU), cuDNN flash attention (GPU), or
        'auto', the fastest that the device has and the model allows.
      base_width: at least 0. 0 for the standard parametrization; else the d_model at which muP's is the same as the
        standard one, so that `optim.lr` is the learning rate of that width and carries over to others
        (`encdec_jax.train.transfer`).
      norm: where norms stand: in front of a sublayer, behind the sum with the residual stream (then no stack has a
        final norm: Vaswani et al. 2017), or in front of it and behind it, before the sum (Gemma 2, arXiv 2408.00118).
      norm_kind: RMSNorm, or LayerNorm with a bias.
      position: how positions enter attention: RoPE, or not at all.
      cross_position: the same of cross-attention and of merged keys of the source, if it is not as `position`.
      block: what a layer is made of: a name of `encdec_jax.model.blocks.BLOCKS`, to which a user may add.
    """

    arch: str
    vocab_size: Annotated[int, Range(2, 2**26)]
    decoder: StackConfig
    encoder: StackConfig | None = None
    rope_theta: Annotated[float, Range(1)] = 10_000.0
    mlp: Literal["swiglu", "gelu"] = "swiglu"
    qk_norm: bool = False
    tie: Literal["all", "inputs", "decoder", "none"] = "all"
    scan: bool = execution(True)
    remat: Literal["none", "full", "dots"] = execution("none")
    dtype: Literal["float32", "bfloat16"] = "float32"
    attention: Literal["auto", "plain", "splash", "cudnn"] = later("auto", execution=True)
    base_width: Annotated[int, Range(0, 2**20)] = later(0)
    norm: Literal["pre", "post", "sandwich"] = "pre"
    norm_kind: Literal["rms", "layer"] = later("rms")
    position: Literal["rope", "none"] = "rope"
    cross_position: Literal["same", "rope", "none"] = later("same")
    block: str = later("standard")

    @property
    def choices(self) -> Arch:
        """The orthogonal choices behind the architecture's name."""
        return ARCHS[self.arch]

    def __post_init__(self) -> None:
        require(self.arch in ARCHS, "model.arch", self.arch, "one of " + ", ".join(ARCHS))
        check_ranges(self, "model.")
        accepted = f"'same', because {self.arch} joins the source's keys to its own: one softmax, one kind of positions"
        final = (
            self.cross_position == "none" and self.choices.reads == "final"
        )  # keys that are made for the target alone
        same = final or self.cross_position in ("same", self.position)
        require(same or self.choices.joins != "merged", "model.cross_position", self.cross_position, accepted)
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
        if self.choices.joins == "merged":
            accepted = f"model.decoder.d_model = {self.decoder.d_model}, because {self.arch} joins keys of both"
            same = self.encoder.d_model == self.decoder.d_model
            require(same, "model.encoder.d_model", self.encoder.d_model, accepted)
        if self.tie in ("all", "inputs"):
            require(
                self.encoder.d_model == self.decoder.d_model,
                "model.tie",
                self.tie,
                f"'decoder' or 'none', because the widths differ ({self.encoder.d_model} and {self.decoder.d_model})",
            )

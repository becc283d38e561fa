"""What a model is: its architecture, its stacks and what their blocks are made of. No jax here."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import ceil
from typing import Annotated, Literal, TypeAlias

from encdec_jax.errors import UserError, require
from encdec_jax.model.arch import ARCHS, Arch
from encdec_jax.ranges import Range, check_ranges
from encdec_jax.resolve import execution, later

Tie: TypeAlias = Literal["all", "inputs", "decoder", "none"]
Activation: TypeAlias = Literal["swiglu", "gelu", "gelu_exact", "relu", "relu2", "silu", "geglu", "geglu_exact"]


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
      ahead: keys behind the query, where it sees such, are seen so many positions farther than those in front of it
        (T5Gemma 2's encoder: 1); at least 0, and 0 without a window.
      global_every: the last of so many layers sees all the same; at least 1, or 0 for none.
      global_first: it is the first of so many instead (ModernBERT, arXiv 2412.13663).
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
    ahead: Annotated[int, Range(0, 2**24)] = later(0)
    global_first: bool = later(False)

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
        accepted = "false, because no layer sees all for its place (global_every)"
        require(self.global_every > 0 or not self.global_first, "global_first", self.global_first, accepted)
        limited = self.window > 0 or self.ahead == 0
        require(limited, "ahead", self.ahead, "0, because without a window every key is seen")


@dataclass(frozen=True)
class ExpertConfig:
    """Experts in place of MLPs: each token goes through those that a router chooses (arXiv 2101.03961, 2006.16668).

    Attributes:
      number: experts of a layer, each an MLP of the stack's d_ff; 0 for MLPs alone.
      every: the last of so many layers has experts, the others an MLP; at least 1.
      chosen: experts that a token goes through, at most `number`. What they give is weighted: one by its probability
        (Switch Transformer), several by theirs over their sum (GShard).
      capacity: of an expert, over its even share: it takes at most ceil(capacity * chosen * length / number) tokens of
        a row, the first that choose it, and what comes later is dropped. 0: it takes all (dropless).
      balance: weight of the load-balance loss, at least 0.
      z_loss: weight of the router's z-loss, at least 0.
    """

    number: Annotated[int, Range(0, 2**16)] = later(0)
    every: Annotated[int, Range(1, 10_000)] = later(1)
    chosen: Annotated[int, Range(1, 2**16)] = later(1)
    capacity: Annotated[float, Range(0)] = later(0.0)
    balance: Annotated[float, Range(0)] = later(0.01)
    z_loss: Annotated[float, Range(0)] = later(0.0)

    def __post_init__(self) -> None:
        check_ranges(self, "model.experts.")
        if self.number == 0:
            for field in fields(self):
                value, accepted = getattr(self, field.name), f"{field.default}, because model.experts.number is 0"
                require(value == field.default, f"model.experts.{field.name}", value, accepted)
            return
        accepted = f"at most model.experts.number = {self.number}"
        require(self.chosen <= self.number, "model.experts.chosen", self.chosen, accepted)

    def slots(self, length: int) -> int:
        """Tokens of a row of `length` that an expert has room for, where its capacity is limited."""
        return min(length, ceil(self.capacity * self.chosen * length / self.number))

    def spare(self, length: int) -> float:
        """Rows of a product that experts compute, over those of all the tokens that go through them."""
        return self.number * self.slots(length) / (self.chosen * length) if self.capacity else 1


@dataclass(frozen=True)
class ModelConfig:
    """One model: a named architecture, its stacks, and what its blocks are made of.

    Attributes:
      arch: a name of `encdec_jax.model.arch.ARCHS`.
      vocab_size: rows of each embedding table: at least the ids of the vocabulary and of the objective (bytes: 259).
      decoder: the stack that reads the target (for one-stream architectures, the only stack).
      encoder: the stack that reads the source; None where the source has no stream of its own or no blocks of its own.
      rope_theta: the base of RoPE's wavelengths, in tokens, at least 1.
      local_theta: the same in layers with a window (Gemma 3, arXiv 2503.19786); at least 1, or 0 for `rope_theta`.
      mlp: the feed-forward sublayer: SwiGLU, or GELU in its tanh form (as GPT-2's), or exact, ReLU, its square
        (arXiv 2109.08668), SiLU, or GEGLU, whose GELU has its tanh form (T5 v1.1), or is exact (ModernBERT).
      qk_norm: parameter-free RMSNorm of queries and keys over head_dim (RedLLM, arXiv 2510.26622, section 3).
      tie: which of source embedding, target embedding and output head are one table; 'all' or 'inputs' (the output head
        has one of its own) where source and target are one stream.
      scan: apply blocks with `lax.scan` (one compiled body) instead of unrolled.
      remat: what the backward pass recomputes: nothing, everything, or all but the matmuls' outputs.
      dtype: of the compute; weights, norms, softmax and losses are always float32.
      attention: what computes attention: plain XLA, Pallas splash attention (TPU), cuDNN flash attention (GPU), or
        'auto', the fastest that the device has and the model allows.
      base_width: at least 0. 0 for the standard parametrization; else the d_model at which muP's is the same as the
        standard one, so that `optim.lr` is the learning rate of that width and carries over to others
        (`encdec_jax.train.transfer`).
      base_depth: at least 0. 0 for residual branches as they are; else the depth of a stack at which CompleteP's are:
        those of a stack of n layers are multiplied by base_depth / n, so that the learning rate carries over to other
        depths (`encdec_jax.train.transfer`). Not with norms behind the sum.
      norm: where norms stand: in front of a sublayer, behind the sum with the residual stream (Vaswani et al. 2017), or
        in front of it and behind it, before the sum (Gemma 2, arXiv 2408.00118).
      norm_kind: RMSNorm, or LayerNorm with a bias, or without one.
      norm_epsilon: above 0. What is added to the mean square under every norm's root.
      zero_centred: learned scales of norms are held less 1, and begin at 0 (Gemma).
      position: how positions enter: RoPE; T5's relative bias, one table a stack (arXiv 1910.10683, section 2.1)
        or a layer (UMT5, arXiv 2304.09151); ALiBi (arXiv 2108.12409); a learned or a sinusoidal vector that is added to
        embeddings, the learned one scaled as they are (`embedding`), or not, the sinusoidal one with its sines in
        front of its cosines, or each beside its own ('sinusoidal_pairs', as Vaswani et al. 2017 print it), or of a
        position that begins anew behind the source ('separate'); or not at all. Biases are of self-attention alone.
      cross_position: the same of cross-attention and of merged keys of the source, if it is not as `position`.
      target_positions: whether positions of the target go on behind its source's, or begin at 0 again, where the source
        has a stream of its own (BART; T5Gemma 2, arXiv 2512.14856).
      qk_scaled_norm: RMSNorm of queries and keys over head_dim with a learned scale for either (Qwen 3).
      v_norm: parameter-free RMSNorm of values over head_dim (RedLLM).
      mixed_norm: and of what each head mixed of them, before the output's matrix (RedLLM; its encoder-decoder alone).
      score_scale: at least 0. What scores of attention are multiplied by (T5: 1); 0 for head_dim^-0.5. Queries' weights
        are drawn so that scores begin as large as with that.
      score_cap, logit_cap: at least 0. c, where scores of attention (before biases), or logits, z become c tanh(z / c)
        (Gemma 2, arXiv 2408.00118); 0 for no cap.
      embedding: how tables are held: 'scaled', drawn at d_model^-0.5 and multiplied by d_model^0.5 where ids are
        looked up (Vaswani et al. 2017); 'plain', drawn at 1 and looked up as they are, and multiplied by d_model^-0.5
        where they are the output head too (T5); or 'unscaled', drawn at d_model^-0.5 and used as they are (Llama).
      kernel_width: of a convolution in place of self-attention, in tokens: an odd number.
      random_features: at least 1. Of the kernel that stands for the softmax in Performer's attention.
      softmaxes: at least 1. That are mixed for each prediction, each of a context of its own (arXiv 1711.03953).
      experts: in place of MLPs, if there are any.
      position_buckets: at least 4. Of T5's relative bias: half of them for either direction where both are seen; a
        multiple of 4.
      position_range: at least 5. The distance from which all share its last bucket; more than `position_buckets`.
      position_rows: at least 1. Of learned absolute positions and of MLP-Mixer's weights; a token behind them has a
        loss that is no number.
      position_offset: at least 0. The row of position 0 (BART: 2).
      block_length: positions of a block, at least 1, of architectures that see by blocks.
      block: what a layer is made of: a name of `encdec_jax.model.blocks.BLOCKS`, to which a user may add.
      attention_bias: which projections of attention have a bias: none, those of queries, keys and values (Qwen 2, arXiv
        2407.10671), or the output's too (GPT-2).
      mlp_bias: whether the matrices of MLPs have one.
      logit_bias: whether logits have one (Marian).
      final_norm: whether each stack's last states are normalised; null for all but where norms are behind the sum. What
        is read layer by layer never is.
      embedding_norm: whether what goes into each stack is normalised, positions added (BART, arXiv 1910.13461).
      first_norm: whether the first sublayer of each stack has a norm in front, as the others have: ModernBERT, whose
        embeddings are normalised, leaves it out. True with norms behind the sum.
      output_transform: whether what the output head reads goes through a matrix, the exact GELU and a norm of its own
        first (BERT, arXiv 1810.04805; without a bias, as ModernBERT's).
      rope_share: above 0. Of head_dim, what RoPE turns: its first numbers, rounded down (GPT-NeoX, arXiv 2204.06745).
      rope_scaling: how RoPE reaches beyond the positions it was trained on, but in layers with `local_theta`: 'linear',
        every wavelength times `rope_factor` (arXiv 2306.15595); 'llama3', those that turn less than once in
        `rope_original` positions, and in part those below 4 times (arXiv 2407.21783); 'yarn', the same by YaRN's ramp,
        from 32 times to once, with cosines and sines times 0.1 ln(rope_factor) + 1 (arXiv 2309.00071).
      rope_factor: above 1 where RoPE is scaled, else 1.
      rope_original: positions, at least 1 for 'llama3' and 'yarn', else 0.
      sinks: whether each head of each attention has a learned score of a key that gives nothing (gpt-oss; arXiv
        2309.17453). Plain attention alone.
      attention_dropout, residual_dropout, embedding_dropout: probabilities, at least 0 and below 1, with which training
        leaves out a key's share in attention (plain attention alone), a number of what a sublayer adds, and one of what
        goes into a stack, embeddings and positions (T5 and BART: 0.1).
      tied_kv: one projection gives keys and values ('skv' of arXiv 2109.10686); norms and RoPE come after it.
    """

    arch: str
    vocab_size: Annotated[int, Range(2, 2**26)]
    decoder: StackConfig
    encoder: StackConfig | None = None
    rope_theta: Annotated[float, Range(1)] = 10_000.0
    mlp: Activation = "swiglu"
    qk_norm: bool = False
    tie: Tie = "all"
    scan: bool = execution(True)
    remat: Literal["none", "full", "dots"] = execution("none")
    dtype: Literal["float32", "bfloat16"] = "float32"
    attention: Literal["auto", "plain", "splash", "cudnn"] = later("auto", execution=True)
    base_width: Annotated[int, Range(0, 2**20)] = later(0)
    norm: Literal["pre", "post", "sandwich"] = "pre"
    norm_kind: Literal["rms", "layer", "layer_unbiased"] = later("rms")
    position: Literal[
        "rope",
        "t5",
        "t5_by_layer",
        "alibi",
        "learned",
        "learned_unscaled",
        "sinusoidal",
        "sinusoidal_pairs",
        "separate",
        "none",
    ] = "rope"
    cross_position: Literal["same", "rope", "none"] = later("same")
    block: str = later("standard")
    target_positions: Literal["behind", "restart"] = later("behind")
    qk_scaled_norm: bool = later(False)
    v_norm: bool = later(False)
    mixed_norm: bool = later(False)
    score_scale: Annotated[float, Range(0)] = later(0.0)
    score_cap: Annotated[float, Range(0)] = later(0.0)
    logit_cap: Annotated[float, Range(0)] = later(0.0)
    embedding: Literal["scaled", "plain", "unscaled"] = later("scaled")
    position_buckets: Annotated[int, Range(4, 2**16)] = later(32)
    position_range: Annotated[int, Range(5, 2**24)] = later(128)
    position_rows: Annotated[int, Range(1, 2**24)] = later(1024)
    position_offset: Annotated[int, Range(0, 2**24)] = later(0)
    block_length: Annotated[int, Range(1, 2**24)] = later(64)
    norm_epsilon: Annotated[float, Range(0, 1, above=True)] = later(1e-6)
    zero_centred: bool = later(False)
    local_theta: Annotated[float, Range(0)] = later(0.0)
    attention_bias: Literal["none", "qkv", "all"] = later("none")
    mlp_bias: bool = later(False)
    logit_bias: bool = later(False)
    final_norm: bool | None = later(None)
    embedding_norm: bool = later(False)
    first_norm: bool = later(True)
    output_transform: bool = later(False)
    rope_share: Annotated[float, Range(0, 1, above=True)] = later(1.0)
    rope_scaling: Literal["none", "linear", "llama3", "yarn"] = later("none")
    rope_factor: Annotated[float, Range(1)] = later(1.0)
    rope_original: Annotated[int, Range(0, 2**30)] = later(0)
    sinks: bool = later(False)
    tied_kv: bool = later(False)
    softmaxes: Annotated[int, Range(1, 2**10)] = later(1)
    experts: ExpertConfig = later(ExpertConfig())  # noqa: RUF009 (it is frozen)
    base_depth: Annotated[int, Range(0, 10_000)] = later(0)
    attention_dropout: Annotated[float, Range(0, 1, below=True)] = later(0.0)
    residual_dropout: Annotated[float, Range(0, 1, below=True)] = later(0.0)
    embedding_dropout: Annotated[float, Range(0, 1, below=True)] = later(0.0)
    kernel_width: Annotated[int, Range(1, 2**10)] = later(9)
    random_features: Annotated[int, Range(1, 2**16)] = later(256)

    @property
    def outputs(self) -> int:
        """Logits of a position."""
        return self.softmaxes * self.vocab_size

    @property
    def choices(self) -> Arch:
        """The orthogonal choices behind the architecture's name."""
        return ARCHS[self.arch]

    def __post_init__(self) -> None:
        require(self.arch in ARCHS, "model.arch", self.arch, "one of " + ", ".join(ARCHS))
        check_ranges(self, "model.")
        self._check_parts()
        accepted = f"'same', because {self.arch} joins the source's keys to its own: one softmax, one kind of positions"
        final = (
            self.cross_position == "none" and self.choices.reads == "final"
        )  # keys that are made for the target alone
        same = final or self.cross_position in ("same", self.position)
        require(same or self.choices.joins != "merged", "model.cross_position", self.cross_position, accepted)
        apart = self.choices.own_stream or self.target_positions == "behind"
        accepted = f"'behind', because in {self.arch} source and target are one stream"
        require(apart, "model.target_positions", self.target_positions, accepted)
        accepted = f"'all' or 'inputs', because {self.arch} has one embedding"
        require(self.choices.own_stream or self.tie in ("all", "inputs"), "model.tie", self.tie, accepted)
        once = self.position != "separate" or self.target_positions == "behind"
        accepted = "'behind', because those of model.position 'separate' begin again by themselves"
        require(once, "model.target_positions", self.target_positions, accepted)
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
        if self.choices.reads == "both":
            layers, times = self.encoder.n_layers, self.decoder.n_layers
            accepted = f"a multiple of model.decoder.n_layers = {times}, whose layers read evenly spaced ones"
            require(layers % times == 0, "model.encoder.n_layers", layers, accepted)
        if self.choices.context:
            size, accepted = self.decoder, f"0, because {self.arch} sees by blocks (model.block_length)"
            require(size.window == 0, "model.decoder.window", size.window, accepted)
            every, accepted = size.cross_every, f"1: each layer of {self.arch} reads its context"
            require(every == 1, "model.decoder.cross_every", every, accepted)
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

    def _check_parts(self) -> None:
        both = self.qk_norm and self.qk_scaled_norm
        require(not both, "model.qk_scaled_norm", self.qk_scaled_norm, "false, because model.qk_norm is true")
        plain = self.embedding != "scaled" and self.base_width
        require(not plain, "model.embedding", self.embedding, "'scaled', which muP is written for (model.base_width)")
        theta = self.local_theta
        require(theta == 0 or theta >= 1, "model.local_theta", theta, "at least 1, or 0 for model.rope_theta")
        self._check_rope()
        require(self.kernel_width % 2 == 1, "model.kernel_width", self.kernel_width, "an odd number: it has a centre")
        deepest = max(stack.n_layers for stack in (self.encoder, self.decoder) if stack)
        accepted = f"at most {deepest}, the layers there are: none would have experts"
        require(self.experts.every <= deepest, "model.experts.every", self.experts.every, accepted)
        in_front = self.first_norm or self.norm != "post"
        require(in_front, "model.first_norm", False, "true: with model.norm = 'post' no norm stands in front")
        biased = self.mlp_bias and self.experts.number > 0
        require(not biased, "model.mlp_bias", True, "false: experts have no biases (model.experts.number)")
        scales = self.base_depth > 0 and self.norm == "post"
        require(not scales, "model.base_depth", self.base_depth, "0, because model.norm = 'post' undoes what it scales")
        buckets = self.position_buckets
        require(buckets % 4 == 0, "model.position_buckets", buckets, "a multiple of 4")
        accepted = f"more than model.position_buckets = {buckets}"
        require(self.position_range > buckets, "model.position_range", self.position_range, accepted)

    def _check_rope(self) -> None:
        scaling, factor, original = self.rope_scaling, self.rope_factor, self.rope_original
        accepted = f"{'1' if scaling == 'none' else 'above 1'}, because model.rope_scaling is {scaling!r}"
        require((factor > 1) == (scaling != "none"), "model.rope_factor", factor, accepted)
        reads = scaling in ("llama3", "yarn")
        accepted = f"{'at least 1' if reads else '0'}, because model.rope_scaling is {scaling!r}"
        require((original > 0) == reads, "model.rope_original", original, accepted)

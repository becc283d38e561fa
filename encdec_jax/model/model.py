"""One model that spans every architecture of `encdec_jax.model.arch.ARCHS`."""

from __future__ import annotations

from flax import nnx
from jax import Array

from encdec_jax.model import declare
from encdec_jax.model.choice import resolve
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.kernels import Sees
from encdec_jax.model.layers import Embed, KeyValues, KVCache, View, join_views, rope, view
from encdec_jax.model.param import subtree
from encdec_jax.model.stack import Emit, Stack, normed
from encdec_jax.model.streams import Stream, opened


class Model(nnx.Module):
    """Embeddings, one or two stacks, an output head.

    `nnx.split(Model(...))` gives the pytree of parameters that training, sharding and checkpoints see; their paths are
    those of `declare.model(config)`. Sharing is calling one stack, or one table, twice.
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        tree = declare.model(config)
        if config.attention == "auto":
            config = resolve(config)
        self.config = nnx.static(config)
        self.embed = Embed(subtree(tree, "embed"), config, rngs)
        own_source = "source_embed" in tree
        self.source_embed = Embed(subtree(tree, "source_embed"), config, rngs) if own_source else None
        self.decoder = Stack(subtree(tree, "decoder"), config, config.decoder.n_layers, rngs)
        self.encoder = (
            Stack(subtree(tree, "encoder"), config, config.encoder.n_layers, rngs) if config.encoder else None
        )
        self.head = Embed(subtree(tree, "head"), config, rngs) if "head" in tree else None

    def __call__(self, source: Stream | None, target: Stream, scored: int) -> Array:
        """float32 logits [batch, scored, vocab] at the last `scored` positions of the target.

        Args:
          source: the source stream [batch, source], for architectures that give it one of its own; else None.
          target: the target stream [batch, target]; for one-stream architectures source and target joined.
          scored: positions to compute logits for.
        """
        states, _ = self.decode(target, source, None if source is None else self.encode(source))
        return self.logits(states[:, -scored:])

    def encode(self, source: Stream) -> Array:
        """What the decoder reads of the source.

        Returns:
          [batch, source, width], or [layers, batch, source, width] where the decoder reads layer by layer.
        """
        arch = self.config.choices
        stack = self.decoder if self.encoder is None else self.encoder
        x = (self.source_embed or self.embed)(source.tokens)
        see = self._view(source, source, self._own(), encoder=True)
        if arch.reads == "layers":
            # A merged key is made from what goes into the layer; a sublayer reads what came out of it, for else
            # the encoder's last layer would serve nobody.
            _, states = stack(x, see, emit="inputs" if arch.joins == "merged" else "outputs")
            assert states is not None
            return states
        x, _ = stack(x, see)
        return x if arch.joins == "merged" else normed(stack, x)

    def project_kv(self, source: Stream) -> KeyValues:
        """What decoding needs of the source: the decoder layers' keys and values of it, projected once.

        Where a layer's keys are those of the source's own pass through it (one stream, or merged layer by layer),
        that pass is all; its last layer's attention and MLP are computed too, and nobody reads them.

        Returns:
          [layers, batch, source, n_kv_heads, head_dim].
        """
        arch = self.config.choices
        if arch.joins == "sublayer" or arch.reads == "final":
            cos_sin = rope(source.position, self.config.decoder.head_dim, self.config.rope_theta)
            return self.decoder.project_kv(self.encode(source), cos_sin, by_layer=arch.reads == "layers")
        x = (self.source_embed or self.embed)(source.tokens)
        return self.decoder(x, self._view(source, source, self._own()), emit="keys")[1]

    def decode(
        self, target: Stream, source: Stream | None, memory: Array | KeyValues | None, cache: KVCache | None = None
    ) -> tuple[Array, KeyValues | None]:
        """The target's pass through the decoder.

        Args:
          target: [batch, target].
          source: the source stream, where it is one of its own.
          memory: of the source: what `encode` returns, or what `project_kv` returns.
          cache: the tokens before the target, and room for the target's, all that its self-attention is to see.

        Returns:
          final states [batch, target, d_model]; with a cache, also the target's keys and values
          [layers, batch, target, n_kv_heads, head_dim], which the cache does not hold yet.
        """
        arch = self.config.choices
        x = self.embed(target.tokens)
        whole: Sees | None = None
        if cache is None:
            see, whole = self._view(target, target, "causal" if arch.own_stream else self._own()), "full"
        else:  # a few tokens against a cache: no pattern that a kernel knows
            see = self._view(target, cache.stream)
        across = None if source is None else self._view(target, opened(source), whole)
        if across is not None and arch.joins == "merged":
            see, across = join_views(across, see), None
        if cache is not None:  # cached keys are rotated already; the target's own are not
            see = see._replace(key=see.query)
        by_layer = arch.reads == "layers" or isinstance(memory, KeyValues)
        emit: Emit | None = None if cache is None else "keys"
        x, new = self.decoder(x, see, memory, across, cache, by_layer=by_layer, emit=emit)
        return normed(self.decoder, x), new

    def logits(self, states: Array) -> Array:
        """float32 logits [batch, length, vocab] of final states [batch, length, d_model]."""
        return (self.head or self.embed).logits(states)

    def _view(self, query: Stream, key: Stream, sees: Sees | None = None, encoder: bool = False) -> View:
        size = self.config.encoder if encoder and self.config.encoder else self.config.decoder
        pattern = sees if self.config.attention == "splash" else None
        return view(query, key, size.head_dim, self.config.rope_theta, pattern)

    def _own(self) -> Sees:
        """What the first stream's queries see of it."""
        arch = self.config.choices
        if not arch.source_open:
            return "causal"
        return "full" if arch.own_stream else "prefix"


def initial(config: ModelConfig, key: Array) -> nnx.State:
    """Initial parameters from a jax random key. Pure: `jax.jit` shards it, `jax.eval_shape` gives its shapes."""
    return nnx.split(Model(config, nnx.Rngs(params=key)))[1]


def graph(config: ModelConfig) -> nnx.GraphDef:
    """What `nnx.merge` needs beside the parameters to make the model again; computes nothing."""
    return nnx.split(nnx.eval_shape(lambda: Model(config, nnx.Rngs(params=0))))[0]

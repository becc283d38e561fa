"""One model that spans every architecture of `encdec_jax.model.arch.ARCHS`."""

from __future__ import annotations

from flax import nnx
from jax import Array

from encdec_jax.config import ModelConfig
from encdec_jax.model import declare
from encdec_jax.model.layers import Embed, View, join_views, subtree, view
from encdec_jax.model.stack import Stack, normed
from encdec_jax.model.streams import Stream, opened


class Model(nnx.Module):
    """Embeddings, one or two stacks, an output head.

    `nnx.split(Model(...))` gives the pytree of parameters that training, sharding and checkpoints see; their paths are
    those of `declare.model(config)`. Sharing is calling one stack, or one table, twice.
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        tree = declare.model(config)
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
        states = self.decode(target, source, None if source is None else self.encode(source))
        return self.logits(states[:, -scored:])

    def encode(self, source: Stream) -> Array:
        """What the decoder reads of the source.

        Returns:
          [batch, source, width], or [layers, batch, source, width] where the decoder reads layer by layer.
        """
        arch = self.config.choices
        stack = self.decoder if self.encoder is None else self.encoder
        x = (self.source_embed or self.embed)(source.tokens)
        see = self._view(source, source, encoder=True)
        if arch.reads == "layers":
            # A merged key is made from what goes into the layer; a sublayer reads what came out of it, for else
            # the encoder's last layer would serve nobody.
            _, states = stack(x, see, emit="inputs" if arch.joins == "merged" else "outputs")
            assert states is not None
            return states
        x, _ = stack(x, see)
        return x if arch.joins == "merged" else normed(stack, x)

    def decode(self, target: Stream, source: Stream | None, memory: Array | None) -> Array:
        """Final states [batch, target, d_model] of the target, given `encode`'s memory of the source."""
        arch = self.config.choices
        x = self.embed(target.tokens)
        see = self._view(target, target)
        across = None if source is None else self._view(target, opened(source))
        if across is not None and arch.joins == "merged":
            see, across = join_views(across, see), None
        x, _ = self.decoder(x, see, memory, across, by_layer=arch.reads == "layers")
        return normed(self.decoder, x)

    def logits(self, states: Array) -> Array:
        """float32 logits [batch, length, vocab] of final states [batch, length, d_model]."""
        return (self.head or self.embed).logits(states)

    def _view(self, query: Stream, key: Stream, encoder: bool = False) -> View:
        size = self.config.encoder if encoder and self.config.encoder else self.config.decoder
        return view(query, key, size.head_dim, self.config.rope_theta)


def initial(config: ModelConfig, key: Array) -> nnx.State:
    """Initial parameters from a jax random key. Pure: `jax.jit` shards it, `jax.eval_shape` gives its shapes."""
    return nnx.split(Model(config, nnx.Rngs(params=key)))[1]


def graph(config: ModelConfig) -> nnx.GraphDef:
    """What `nnx.merge` needs beside the parameters to make the model again; computes nothing."""
    return nnx.split(nnx.eval_shape(lambda: Model(config, nnx.Rngs(params=0))))[0]

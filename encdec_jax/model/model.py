"""One model that spans every architecture of `encdec_jax.model.arch.ARCHS`."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jax import Array

from encdec_jax.model import declare
from encdec_jax.model.blocks import ends, plans, reading, source_stream
from encdec_jax.model.choice import resolve
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.edge import Reads
from encdec_jax.model.join import join_biases, join_masks, join_turns
from encdec_jax.model.kernels import Pattern, Told, pattern, told
from encdec_jax.model.node import Node
from encdec_jax.model.param import StreamName, subtree
from encdec_jax.model.parts import norms, softmaxes, tables, transform
from encdec_jax.model.parts.dropout import EMBEDDED, dropped
from encdec_jax.model.parts.looked import Looked
from encdec_jax.model.parts.positions import POSITIONS, CosSin
from encdec_jax.model.parts.sublayer import looks
from encdec_jax.model.period import ring
from encdec_jax.model.seen import Feed, KeyValues, View
from encdec_jax.model.stack import Aux, Emit, Ran, Stack, folded, normed
from encdec_jax.model.stages import pooled
from encdec_jax.model.streams import Stream, opened, restarted


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
        stacks = plans(config)
        # In the order in which initial values are drawn.
        self.embed = Node(subtree(tree, "embed"), config, rngs)
        own_source = "source_embed" in tree
        self.source_embed = Node(subtree(tree, "source_embed"), config, rngs) if own_source else None
        self.decoder = Stack(subtree(tree, "decoder"), stacks["decoder"], config, rngs)
        own_encoder = "encoder" in stacks
        self.encoder = Stack(subtree(tree, "encoder"), stacks["encoder"], config, rngs) if own_encoder else None
        self.head = Node(subtree(tree, "head"), config, rngs) if "head" in tree else None
        self.transform = Node(subtree(tree, "transform"), config, rngs) if "transform" in tree else None
        self.softmaxes = Node(subtree(tree, "softmaxes"), config, rngs) if "softmaxes" in tree else None

    def __call__(self, source: Stream | None, target: Stream, scored: int) -> Array:
        """float32 logits [batch, scored, vocab] at the last `scored` positions of the target, or of source and target.

        Args:
          source: the source stream [batch, source], for architectures that give it one of its own; else None.
          target: the target stream [batch, target]; for one-stream architectures source and target joined.
          scored: positions to compute logits for.
        """
        return self.logits(self.states(source, target, scored)[0])

    def states(
        self, source: Stream | None, target: Stream, scored: int, keys: Array | None = None
    ) -> tuple[Array, Aux]:
        """What `logits` takes, [batch, scored, d_model], and what sublayers add to the training loss or want logged.

        Where more are scored than the target has, they are the last of the source's stream too, in front.

        `keys` [batch] are jax random keys of what each row draws; None outside training.
        """
        first, second = (None, None) if keys is None else (folded(keys, stream) for stream in range(2))
        given = target if self.config.choices.context else source
        read = None if given is None else self._encode(given, first)
        states = None if read is None else self._memory(read)
        ran = self._decode(target, source, states, None, None, second)
        last, of_source = normed(self.decoder, ran.x), scored - target.tokens.shape[1]
        if read is None:
            return last[:, -scored:], ran.aux
        if source is not None and of_source > 0:  # by the norm in front of the head, where the encoder ends without one
            stack = self.encoder if self.encoder is not None and self.encoder.norm is not None else self.decoder
            last = jnp.concatenate([normed(stack, read.x)[:, -of_source:], last], axis=1)
        return last[:, -scored:], read.aux.joined(ran.aux)

    def encode(self, source: Stream) -> Array:
        """What the decoder reads of the source.

        Returns:
          [batch, source, width], or [layers, batch, source, width] where the decoder reads layer by layer.
        """
        return self._memory(self._encode(source))

    def read(self, source: Stream) -> tuple[Array, Stream]:
        """Final states [batch, places, width] of the stack that reads the source, behind its norm where it has one.

        And what they are of: the source, or the places of the stack's last stage.
        """
        if reading(self.config) is None:
            return self.states(None, source, source.tokens.shape[1])[0], source
        stack, steps = self.decoder if self.encoder is None else self.encoder, ends(self.config)
        return normed(stack, self._encode(source).x), pooled(source, steps, steps)

    def project_kv(
        self, source: Stream, states: Array | None = None
    ) -> tuple[KeyValues | None, list[dict[str, Array]] | None]:
        """What decoding needs of the source: the decoder sublayers' keys and values of it, projected once.

        Where a layer's keys are those of the source's own pass through it (one stream, or merged layer by layer),
        that pass is all; its last layer's attention and MLP are computed too, and nobody reads them.

        Returns:
          [sublayers, batch, source, n_kv_heads, head_dim], None where there are no such keys; with `states` of a
          context, their keys and values in front of the stream's own. And what sublayers keep beside them of a source
          that is the first part of the target's stream, else None.
        """
        read = reading(self.config)
        if read is None or (read.every and read.merged):
            stream: StreamName = "target" if read is None else "source"
            views = self._views(self.decoder, stream, source, source, None)
            x = self._embed(self.decoder, stream, source)
            ran = self.decoder(x, stream, source, views, states, emit="keys", brief=read is None)
            return ran.emitted, ran.states if read is None else None
        return self._project(self.encode(source), source, by_layer=read.every > 0), None

    def context(self, tokens: Stream, cache: Feed | None = None) -> tuple[KeyValues, Array]:
        """The context's pass over tokens: keys and values of its layers [layers, batch, length, ...], final states."""
        ran = self._encode(tokens, cache=cache, emit="keys")
        return ran.emitted, self._memory(ran)

    def project_context(self, states: Array, tokens: Stream) -> KeyValues:
        """Keys and values that the decoder's layers make of the context's states [batch, length, width]."""
        return self._project(states, tokens, by_layer=False)

    def _project(self, states: Array, tokens: Stream, by_layer: bool) -> KeyValues:
        size = self.config.decoder

        def cos_sin(reads: Reads) -> tuple[Array, Array] | None:
            return POSITIONS[reads.position].turn(self.config, _stage(tokens, reads, 1), size.head_dim)

        return self.decoder.project_kv(states, cos_sin, by_layer=by_layer)

    def decode(
        self, target: Stream, source: Stream | None, memory: Array | KeyValues | None, cache: Feed | None = None
    ) -> tuple[Array, KeyValues | None, list[dict[str, Array]]]:
        """The target's pass through the decoder.

        Args:
          target: [batch, target].
          source: the source stream, where it is one of its own.
          memory: of the source: what `encode` returns, or what `project_kv` returns.
          cache: of the tokens before the target, as the target sees it.

        Returns:
          final states [batch, target, d_model]; with a cache, also the target's keys and values
          [sublayers, batch, target, n_kv_heads, head_dim], which the cache does not hold yet, and what sublayers keep
          beside them in place of the cache's `states`.
        """
        projected = isinstance(memory, KeyValues)
        states, kv = (None, memory) if projected else (memory, None)
        assert not isinstance(states, KeyValues)
        assert not isinstance(kv, Array)
        ran = self._decode(target, source, states, kv, cache)
        return normed(self.decoder, ran.x), ran.emitted, ran.states

    def looked(self, source: Stream | None, target: Stream) -> dict[str, Looked | None]:
        """Where attentions look, each `Looked` with a leading axis that counts those of a pass in order; None of none.

        Args:
          source, target: as of a call, without padding.

        Returns:
          of the 'target', and of the 'source' where that, or the context, has a pass of its own.
        """
        given = target if self.config.choices.context else source
        states = None if given is None else self._memory(self._encode(given))
        found = {} if given is None else {"source": self._encode(given, emit="attention").emitted}
        return {**found, "target": self._decode(target, source, states, None, None, emit="attention").emitted}

    def logits(self, states: Array) -> Array:
        """float32 logits [batch, length, vocab] of final states [batch, length, d_model]."""
        return tables.logits(self.head or self.embed, self.contexts(states))

    def contexts(self, states: Array) -> Array | softmaxes.Contexts:
        """What the table of the head multiplies: the states, transformed if at all, where there is one softmax."""
        states = states if self.transform is None else transform.transformed(self.transform, states)
        return states if self.softmaxes is None else softmaxes.contexts(self.softmaxes, states)

    def _embed(
        self, stack: Stack, name: StreamName, stream: Stream, around: Stream | None = None, keys: Array | None = None
    ) -> Array:
        """Embeddings of a stream, with its positions; `around` is the stream that its source is in, if not this one."""
        table = (self.source_embed or self.embed) if name == "source" else self.embed
        x, position = tables.embed(table, stream.tokens), self.config.position
        placed = restarted(stream, around or stream) if POSITIONS[position].restarts else stream
        added = POSITIONS[position].embed(stack.position(position), self.config, placed, x.shape[-1])
        x = x if added is None else x + added.astype(x.dtype)
        x = x if stack.embedding_norm is None else norms.apply(stack.embedding_norm, x)
        return x if keys is None else dropped(x, self.config.embedding_dropout, folded(keys, EMBEDDED))

    def _encode(
        self, source: Stream, keys: Array | None = None, cache: Feed | None = None, emit: Emit | None = None
    ) -> Ran:
        read, name = reading(self.config), source_stream(self.config)
        stack = self.decoder if self.encoder is None else self.encoder
        if emit is None and read is not None and read.every:
            # A merged key is made from what goes into the layer; a sublayer reads what came out of it, for else
            # the encoder's last layer would serve nobody.
            emit = "inputs" if read.merged else "outputs"
        views = self._views(stack, name, source, source, cache)
        x = self._embed(stack, name, source, keys=keys)
        return stack(x, name, source, views, cache=cache, emit=emit, keys=keys)

    def _memory(self, ran: Ran) -> Array:
        """What the decoder reads of the source's pass."""
        read = reading(self.config)
        if read is not None and read.every:
            layers = ran.emitted if read.every == 1 else ran.emitted[read.every - 1 :: read.every]
            return layers + ran.x if read.residual else layers
        return (
            ran.x
            if read is not None and read.merged and self.encoder is None
            else normed(self.encoder or self.decoder, ran.x)
        )

    def _decode(
        self,
        target: Stream,
        source: Stream | None,
        states: Array | None,
        memory: KeyValues | None,
        cache: Feed | None,
        keys: Array | None = None,
        emit: Emit | None = None,
    ) -> Ran:
        read = reading(self.config)
        by_layer = read is not None and read.every > 0 and states is not None
        if self.config.target_positions == "restart":
            assert source is not None
            target = restarted(target, opened(source))
            if cache is not None:
                held = {r: restarted(one, opened(source)) for r, one in cache.stream.items()}
                cache = cache._replace(stream=held)
        views = self._views(self.decoder, "target", target, source, cache)
        emit = emit if cache is None else "keys"
        x = self._embed(self.decoder, "target", target, source or (None if cache is None else cache.stream[0]), keys)
        return self.decoder(x, "target", target, views, states, memory, cache, by_layer=by_layer, emit=emit, keys=keys)

    def _views(
        self, stack: Stack, name: StreamName, query: Stream, source: Stream | None, cache: Feed | None
    ) -> dict[tuple[Reads, ...], View]:
        """How a stream sees through a stack, by what its attentions look at: the source's keys in front of its own."""
        found: dict[tuple[Reads, ...], View] = {}
        for _, _, spec in stack.plan.slots():
            for sub in spec:
                looked = looks(sub.layer, name)
                if looked and looked not in found:
                    found[looked] = self._view(stack, looked, query, source, cache)
        return found

    def _view(
        self, stack: Stack, looked: tuple[Reads, ...], query: Stream, source: Stream | None, cache: Feed | None
    ) -> View:
        config, size = self.config, stack.plan.scope.size
        masks: list[Array | Pattern | Told] = []
        turns: list[tuple[CosSin | None, Stream]] = []
        biases: list[Array | None] = []
        keys: list[Stream] = []
        for reads in sorted(looked, key=lambda one: one.states == "own"):
            own = reads.states == "own"
            slots = query if cache is None else cache.stream[0 if reads.memory else ring((reads,), cache.kv)]
            key = slots if reads.key == reads.query else source
            assert key is not None
            queries, key = _stage(query, reads, 0), _stage(key, reads, 1)
            position, kernel = POSITIONS[reads.position], "plain" if cache is not None else config.attention
            if kernel == "splash":
                assert reads.fused is not None
                masks.append(pattern(reads.fused, query, key))
            elif kernel == "cudnn" and len(looked) == 1 and not reads.whole:
                masks.append(told(reads, queries, key))
            else:
                masks.append(reads.sees.mask(queries, key))
            if own or (reads.memory and cache is None):  # cached and kept keys are rotated already
                turned = query if own and cache is not None else key
                turns.append((position.turn(config, turned, size.head_dim), turned))
            held = stack.position(reads.position)
            biases.append(position.bias(held, config, reads, queries, key, size.n_heads))
            keys.append(key)
        mine = POSITIONS[looked[0].position].turn(config, _stage(query, looked[0], 0), size.head_dim)
        return View(join_masks(masks), mine, join_turns(turns), join_biases(biases, keys))


def _stage(tokens: Stream, reads: Reads, side: int) -> Stream:
    """A stream's tokens as queries (0) or keys (1) of an attention stand for them."""
    return pooled(tokens, reads.strides[side], min(reads.strides))


def initial(config: ModelConfig, key: Array) -> nnx.State:
    """Initial parameters from a jax random key. Pure: `jax.jit` shards it, `jax.eval_shape` gives its shapes."""
    return nnx.split(Model(config, nnx.Rngs(params=key)))[1]


def graph(config: ModelConfig) -> nnx.GraphDef:
    """What `nnx.merge` needs beside the parameters to make the model again; computes nothing."""
    return nnx.split(nnx.eval_shape(lambda: Model(config, nnx.Rngs(params=0))))[0]

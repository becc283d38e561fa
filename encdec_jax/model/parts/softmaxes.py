"""A mixture of softmaxes in place of one (Yang et al., arXiv 1711.03953), which lifts the rank that d_model sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from encdec_jax.model.config import ModelConfig
from encdec_jax.model.lazy import jax, jnp
from encdec_jax.model.param import Param, Tree

if TYPE_CHECKING:
    from jax import Array

    from encdec_jax.model.node import Node

GROUP = "mixture of softmaxes"


class Contexts(NamedTuple):
    """What softmaxes are computed from.

    Attributes:
      context: of each, [batch, length, softmaxes, d_model].
      log_share: log of each one's weight, float32 [batch, length, softmaxes].
    """

    context: Array
    log_share: Array


def declare(config: ModelConfig) -> Tree:
    """A router among softmaxes, and a matrix for the context of each; nothing where there is one softmax."""
    d, n = config.decoder.d_model, config.softmaxes
    if n == 1:
        return {}
    router = Param((d, n), ("embed", "choices"), "router", d, d, GROUP, ("target",))
    project = Param((d, n, d), ("embed", "softmaxes", "context"), "matrix", d, d, GROUP, ("target",))
    return {"router": router, "project": project}


def contexts(node: Node, x: Array) -> Contexts:
    """tanh of a projection of x [batch, length, d_model] for each softmax, and log softmax of the float32 router."""
    scores = jnp.einsum("btd,dk->btk", x.astype(jnp.float32), node.exact("router"), precision="highest")
    context = jnp.tanh(jnp.einsum("btd,dkc->btkc", x, node.weight("project")))
    return Contexts(context, jax.nn.log_softmax(scores, axis=-1))


def mixed(logits: Array, log_share: Array) -> Array:
    """Log probabilities [batch, length, vocab] of logits [batch, length, softmaxes, vocab]: logits whose Z is 1."""
    return jax.nn.logsumexp(jax.nn.log_softmax(logits, axis=-1) + log_share[..., None], axis=2)

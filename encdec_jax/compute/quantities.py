"""The quantities that runs can be equal in, each read off the ledger."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from encdec_jax.compute import serving
from encdec_jax.compute.ledger import count, parameters
from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.model.config import ModelConfig

SHAPE = ("params", "params_nonembed", "kv_bytes", "decode_flops")  # what a model's shape decides
DURATION = ("train_flops", "tokens")  # what the length of training decides, given the shape
KV_DTYPE = "bfloat16"
WORDS = {
    "params": "parameters",
    "params_nonembed": "non-embedding parameters",
    "kv_bytes": "KV bytes",
    "decode_flops": "decoding FLOPs",
    "train_flops": "training FLOPs",
    "tokens": "training tokens",
}


@dataclass(frozen=True)
class Quantities:
    """Of one run; or, as `against` gives them, how far each is from another run's, as a fraction.

    Attributes:
      params: all parameters.
      params_nonembed: without embedding tables and output head.
      kv_bytes: of the keys and values cached for one sequence of `source` and `target` tokens, in bfloat16.
      decode_flops: of decoding the `target` tokens of one sequence behind `source` tokens, prefill apart; attention
        as the mask requires.
      train_flops: of all updates; attention as the mask requires, without recomputation.
      tokens: of text trained on, source and target together.
    """

    params: float
    params_nonembed: float
    kv_bytes: float
    decode_flops: float
    train_flops: float
    tokens: float

    def against(self, reference: Quantities) -> Quantities:
        """Relative distance of each from the reference's: value / reference - 1."""
        theirs = asdict(reference)
        return Quantities(**{name: value / theirs[name] - 1 for name, value in asdict(self).items()})


def quantities(run: RunConfig, source: int, target: int) -> Quantities:
    """All of a run, its cache and its decoding at `source` and `target` tokens.

    Raises:
      UserError: as `count`; a length is not accepted.
    """
    ledger, shape = count(run), geometry(run)
    return Quantities(
        params=ledger.params.total,
        params_nonembed=ledger.params.non_embedding,
        kv_bytes=kv_bytes(run.model, source, target),
        decode_flops=decode_flops(run.model, source, target),
        train_flops=shape.updates * ledger.train_flops.mask,
        tokens=shape.tokens,
    )


def of_shape(name: str, model: ModelConfig, source: int, target: int) -> float:
    """One of `SHAPE`."""
    if name == "kv_bytes":
        return kv_bytes(model, source, target)
    if name == "decode_flops":
        return decode_flops(model, source, target)
    params = parameters(model)
    return params.total if name == "params" else params.non_embedding


def kv_bytes(model: ModelConfig, source: int, target: int) -> int:
    """Bytes of the keys and values of one sequence when all of it is cached."""
    return serving.cache_bytes(model, source, target, KV_DTYPE).total


def decode_flops(model: ModelConfig, source: int, target: int) -> float:
    """FLOPs of decoding one sequence's `target` tokens."""
    return serving.decode_all(model, source, target).mask

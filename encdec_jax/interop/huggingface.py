"""The families of Hugging Face's models that are known, by `model_type`. No jax here."""

from __future__ import annotations

from encdec_jax.interop.bart import BARTS
from encdec_jax.interop.decoders import DECODERS
from encdec_jax.interop.family import HFFamily
from encdec_jax.interop.gpt2 import GPT2
from encdec_jax.interop.modernbert import MODERNBERTS
from encdec_jax.interop.original import ORIGINAL
from encdec_jax.interop.t5 import T5S
from encdec_jax.interop.t5gemma import T5GEMMAS

FAMILIES: dict[str, HFFamily] = (
    T5S | T5GEMMAS | BARTS | DECODERS | MODERNBERTS | {"gpt2": GPT2, "transformer": ORIGINAL}
)

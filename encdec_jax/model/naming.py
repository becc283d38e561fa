"""What is said of a published model beside its configuration; T5's shape, and what several say alike. No jax here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from encdec_jax.model.config import ModelConfig, StackConfig

T5_VOCAB = 32_128


@dataclass(frozen=True)
class Named:
    """A published model.

    Attributes:
      config: it, as far as there are parts for it here.
      source: paper or code.
      published: parameters, as its source rounds them; None where it gives no number.
      why: what the count differs by from `published`, where that is more than 1 %.
      lacks: what it has and `config` has not; dropout, which a run chooses, apart.
      parity: which implementation its logits are compared with by a test, if any.
      objective: that it is counted with; if None causal where one stream predicts all of itself, else prefix_lm.
      source_loss: it is counted with a loss on the source too.
    """

    config: ModelConfig
    source: str
    published: float | None = None
    why: str = ""
    lacks: tuple[str, ...] = ()
    parity: str = "none"
    objective: Literal["prefix_lm", "masked_lm"] | None = None
    source_loss: bool = False


def t5(encoder: StackConfig, decoder: StackConfig) -> ModelConfig:
    """T5 1.0 (arXiv 1910.10683, section 2.1): relative bias, pre-norm RMSNorm, ReLU, no other biases, one table."""
    return ModelConfig(
        "enc_dec", T5_VOCAB, decoder, encoder, mlp="relu", position="t5", score_scale=1.0, embedding="plain"
    )


PARITY = "transformers: logits, gradient (tests/interop/test_parity.py)"
LOGITS = "transformers: logits (tests/interop/test_parity.py)"
ROUNDED = "its source rounds"

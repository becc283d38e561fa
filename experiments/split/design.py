"""The design of the four sweeps of this study, which differ in what is read alone: `lm_*` and `en_es` run it.

Shapes: every family has the parameters of the encoder-decoder with half its layers in the encoder, at the same width
and the same number of layers in all; its d_ff makes up for cross-attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from encdec_jax.compute.families import Family, model
from encdec_jax.compute.ledger import parameters
from encdec_jax.compute.match import match
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.evaluate.config import EvalConfig
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.presets import mlp_width, preset
from encdec_jax.train.config import OptimConfig, TrainConfig

BASELINE = "enc_dec 1/2"
HALF = Family("enc_dec", Fraction(1, 2))
STACKS = (Family("causal_lm", None), Family("prefix_lm", None))
SMALL = 3e11  # training FLOPs; the stages go up from here by factors of 3
MIDDLE = 24  # d_model near the best for SMALL
RATE = 0.35  # learning rate x d_model (experiments/recipes); stage `rates` tries half and twice of it

CONFOUNDERS = {
    "parameters": "equal to 2 % at each width: d_ff, of all layers, makes up for cross-attention",
    "depth": "6 layers in all at 3e11 and 9e11 FLOPs, 12 at 2.7e12: depth and budget change together there",
    "learning rate": "0.35 / d_model for all, found at 2 layers; half and twice of it are tried (stage `rates`)",
    "compute or tokens": "stage `tokens` gives all of the middle width the tokens of enc_dec 1/2, not its FLOPs",
    "attention counting": "budgets count what the mask shows; counted as computed, masked scores too, is a column",
    "loss tokens": "causal_lm learns from every byte of text, all others, and it too on pairs, from the target's alone",
    "updates per run": "512 tokens an update for all: 2 windows of text, or 1 row of pairs; at least 500 updates",
    "heads": "one attention head, as wide as the model, at every width",
    "positions": "RoPE's base is 100 for all (LOG.md: with 10,000, prefix_lm learns by luck)",
    "seeds": "three at the middle width, one elsewhere",
}


def splits(*shares: str) -> tuple[Family, ...]:
    return tuple(Family("enc_dec", Fraction(share)) for share in shares)


SIXTHS = (HALF, *splits("2/3", "1/3", "5/6", "1/6"), *STACKS)
TWELFTHS = (HALF, *splits("2/3", "1/3", "3/4", "1/4"), *STACKS)


def shape(family: Family, d_model: int, layers: int) -> ModelConfig:
    """The family's model with as many parameters as `HALF` of this width has, to the nearest d_ff."""
    base = preset("causal_lm", d_model=d_model, dec_layers=1, vocab_size=ByteVocab().size, rope_theta=100.0)

    def sized(family: Family, d_ff: int) -> ModelConfig:
        return model(base, family, d_model, layers, (d_ff, d_ff))

    wanted = parameters(sized(HALF, mlp_width(d_model, base.mlp))).total
    tried = (sized(family, d_ff) for d_ff in range(d_model, 5 * d_model))
    return min(tried, key=lambda one: abs(parameters(one).total - wanted))


@dataclass(frozen=True)
class Reading:
    """What the models read: windows of 256 bytes of text, cut behind `source` of them; verse pairs where that is 0.

    Attributes:
      source: bytes of the source of each window.
      stages: that are run, in this order; each has all seven families.
    """

    source: int
    stages: tuple[str, ...]

    def run(self, family: Family, d_model: int, layers: int, rate: float = RATE) -> RunConfig:
        """An unmatched run."""
        data, evaluate = DataConfig("bible_en_es", "bytes"), EvalConfig(windows=512)
        objective = ObjectiveConfig("seq2seq")
        if self.source:
            data, evaluate = DataConfig("bible_en", "bytes"), EvalConfig(self.source, 256 - self.source, 512)
            objective = ObjectiveConfig("prefix_lm", "fraction", prefix_fraction=self.source / 256)
            if family.arch == "causal_lm":
                objective = ObjectiveConfig("causal_lm")
        return RunConfig(
            model=shape(family, d_model, layers),
            data=data,
            objective=objective,
            optim=OptimConfig(lr=rate / d_model, warmup=0.1),
            train=TrainConfig(batch_size=2 if self.source else 1, checkpoint_every=400_000),
            evaluate=evaluate,
        )

    def runs(self) -> Iterator[RunConfig]:
        """Every stage's runs: cheap ones, of all families, first."""
        for name in self.stages:
            yield from STAGES[name](self)


def _equal(
    reading: Reading, families: tuple[Family, ...], widths: tuple[int, ...], layers: int, budget: float
) -> list[RunConfig]:
    """Equal parameters and equal training FLOPs."""
    runs = [reading.run(family, d_model, layers) for d_model in widths for family in families]
    return match(runs, train_flops=budget)


def _tokens(reading: Reading) -> list[RunConfig]:
    """Equal parameters and equal tokens: as many as `HALF` reads at equal FLOPs. No budget, so in no curve."""
    half, *others = _equal(reading, SIXTHS, (MIDDLE,), 6, SMALL)
    return [replace(run, train=half.train, budget_flops=None) for run in others]


def _rates(reading: Reading) -> list[RunConfig]:
    """Half and twice the learning rate, in no curve."""
    runs = [reading.run(family, MIDDLE, 6, RATE * times) for times in (2.0, 0.5) for family in SIXTHS]
    return [replace(run, budget_flops=None) for run in match(runs, train_flops=SMALL)]


def _seeds(reading: Reading) -> list[RunConfig]:
    runs = _equal(reading, SIXTHS, (MIDDLE,), 6, SMALL)
    return [replace(run, train=replace(run.train, seed=seed)) for seed in (1, 2) for run in runs]


STAGES: dict[str, Callable[[Reading], list[RunConfig]]] = {
    "middle": lambda reading: _equal(reading, SIXTHS, (MIDDLE,), 6, SMALL),
    "seeds": _seeds,
    "tokens": _tokens,
    "sizes": lambda reading: _equal(reading, SIXTHS, (16, 32), 6, SMALL),
    "rates": _rates,
    "larger": lambda reading: _equal(reading, SIXTHS, (32, 24, 48), 6, 3 * SMALL),
    "deeper": lambda reading: _equal(reading, TWELFTHS, (32, 24, 48), 12, 9 * SMALL),
}

"""Which learning rate and depth does each architecture of the quickstart want?

    encdec run experiments/recipes
    encdec collect experiments/recipes

On the quickstart's text, at its middle budget: every architecture at learning rates of 0.175 to 1.4 over d_model; the
encoder-decoder with one and with two layers a side.
"""

from collections.abc import Iterator
from itertools import product

from encdec_jax.compute.match import match
from encdec_jax.config import DataConfig, EvalConfig, ObjectiveConfig, OptimConfig, RunConfig, TrainConfig
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.model.presets import preset

QUESTION = "Which learning rate and depth does each architecture of the quickstart want?"
BASELINE = "causal_lm"
CONFOUNDERS = {"seeds": "one seed a run: differences below 0.03 bits per byte are noise"}
PREDICTIONS: list = []

BUDGET = 1.26e11  # training FLOPs
RECIPES = [("causal_lm", 2), ("prefix_lm", 2), ("enc_dec", 1), ("enc_dec", 2)]  # layers of each stack


def runs() -> Iterator[RunConfig]:
    for (arch, layers), d_model, rate in product(RECIPES, (16, 64), (0.175, 0.35, 0.7, 1.4)):
        yield from match([run(arch, layers, d_model, rate)], train_flops=BUDGET)


def run(arch: str, layers: int, d_model: int, rate: float) -> RunConfig:
    return RunConfig(
        model=preset(
            arch, d_model=d_model, dec_layers=layers, head_dim=d_model, vocab_size=ByteVocab().size, rope_theta=100.0
        ),
        data=DataConfig(task="bible_en", vocab="bytes", length=256),
        objective=ObjectiveConfig("causal_lm" if arch == "causal_lm" else "prefix_lm"),
        optim=OptimConfig(lr=rate / d_model, warmup=0.1),
        train=TrainConfig(batch_size=1, checkpoint_every=400_000),
        evaluate=EvalConfig(prefix=128, suffix=128, windows=512),
    )

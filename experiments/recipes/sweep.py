"""Which learning rate, depth and prefix does each architecture of the quickstart want?

    encdec run experiments/recipes
    encdec collect experiments/recipes

On the quickstart's text, at two of its budgets: every architecture at learning rates of 0.175 to 1.4 over d_model; the
encoder-decoder with one and with two layers a side; the prefix LM with a fixed half and with random prefixes.
The README of `experiments/quickstart` reads the table.
"""

from collections.abc import Iterator
from itertools import product

from encdec_jax.compute.match import match
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.evaluate.config import EvalConfig
from encdec_jax.model.presets import preset
from encdec_jax.train.config import OptimConfig, TrainConfig

QUESTION = "Which learning rate, depth and prefix does each architecture of the quickstart want?"
BASELINE = "causal_lm"
CONFOUNDERS = {"seeds": "one seed a run: differences below 0.03 bits per byte are noise"}
PREDICTIONS: list = []

BUDGETS = {1.2e11: (16, 40), 3.6e11: (24,)}  # training FLOPs -> widths
RECIPES = [  # architecture, layers of each stack, prefix
    ("causal_lm", 2, "half"),
    ("prefix_lm", 2, "half"),
    ("prefix_lm", 2, "random"),
    ("enc_dec", 1, "half"),
    ("enc_dec", 2, "half"),
]


def runs() -> Iterator[RunConfig]:
    for arch, layers, prefix in RECIPES:
        for budget, widths in BUDGETS.items():
            for d_model, rate in product(widths, (0.175, 0.35, 0.7, 1.4)):
                yield from match([run(arch, layers, prefix, d_model, rate)], train_flops=budget)


def run(arch: str, layers: int, prefix: str, d_model: int, rate: float) -> RunConfig:
    return RunConfig(
        model=preset(
            arch, d_model=d_model, dec_layers=layers, head_dim=d_model, vocab_size=ByteVocab().size, rope_theta=100.0
        ),
        data=DataConfig(task="bible_en", vocab="bytes", length=256),
        objective=ObjectiveConfig("causal_lm" if arch == "causal_lm" else "prefix_lm", prefix=prefix),
        optim=OptimConfig(lr=rate / d_model, warmup=0.1),
        train=TrainConfig(batch_size=2, checkpoint_every=400_000),
        evaluate=EvalConfig(prefix=128, suffix=128, windows=512),
    )


def label(run: RunConfig) -> str:
    return run.model.arch

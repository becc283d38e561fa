"""Which learning rate, depth and prefix does each architecture of the quickstart want?

    encdec run experiments/recipes
    encdec collect experiments/recipes

On the quickstart's text, at two of its budgets: every architecture at learning rates of 0.175 to 1.4 over d_model; the
encoder-decoder with one and with two layers a side; the prefix LM with a fixed half and with random prefixes.
The README of `experiments/quickstart` reads the table.
"""

from collections.abc import Iterator

from encdec_jax.compute.match import match
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.evaluate.config import EvalConfig
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.presets import preset
from encdec_jax.sweep.algebra import Sweep, axis, chain, grid, override
from encdec_jax.train.config import OptimConfig, TrainConfig

QUESTION = "Which learning rate, depth and prefix does each architecture of the quickstart want?"
BASELINE = "causal_lm"
CONFOUNDERS = {"seeds": "one seed a run: differences below 0.03 bits per byte are noise"}
PREDICTIONS: list = []

BUDGETS = {1.2e11: (16, 40), 3.6e11: (24,)}  # training FLOPs -> widths
RATES = (0.175, 0.35, 0.7, 1.4)  # learning rates x d_model
RECIPES = [  # architecture, layers of each stack, prefix
    ("causal_lm", 2, "half"),
    ("prefix_lm", 2, "half"),
    ("prefix_lm", 2, "random"),
    ("enc_dec", 1, "half"),
    ("enc_dec", 2, "half"),
]


def model(arch: str, layers: int, d_model: int) -> ModelConfig:
    return preset(
        arch, d_model=d_model, dec_layers=layers, head_dim=d_model, vocab_size=ByteVocab().size, rope_theta=100.0
    )


BASE = RunConfig(
    model=model("causal_lm", 2, 16),
    data=DataConfig(task="bible_en", vocab="bytes", length=256),
    optim=OptimConfig(warmup=0.1),
    train=TrainConfig(batch_size=2, checkpoint_every=400_000),
    evaluate=EvalConfig(prefix=128, suffix=128, windows=512),
)


def recipe(arch: str, layers: int, prefix: str, d_model: int) -> Sweep:
    """A recipe at a width, at every learning rate."""
    objective = ObjectiveConfig("causal_lm" if arch == "causal_lm" else "prefix_lm", prefix=prefix)
    return grid(
        axis("model", model(arch, layers, d_model)),
        axis("objective", objective),
        axis("optim.lr", *(rate / d_model for rate in RATES)),
    )


def runs() -> Iterator[RunConfig]:
    for name in RECIPES:
        for budget, widths in BUDGETS.items():
            points = chain(*(recipe(*name, d_model) for d_model in widths))
            yield from match([override(BASE, point) for point in points], train_flops=budget)


def label(run: RunConfig) -> str:
    return run.model.arch

"""At equal training FLOPs on a little text: does an encoder-decoder, or a prefix LM, beat a causal LM?

    encdec plan experiments/quickstart
    encdec run experiments/quickstart        about 4 minutes on 2 cores
    encdec report experiments/quickstart

Three architectures, three budgets a factor 3 apart, three sizes each: 36 runs of models 8 to 64 wide on the shipped
text, in bytes. Half of a window of 256 bytes is the prefix; all are scored on the same held-out second halves.
"""

from collections.abc import Iterator, Sequence

from encdec_jax.compute.match import match
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.evaluate.config import EvalConfig
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.presets import preset
from encdec_jax.study.predictions import Prediction
from encdec_jax.sweep.algebra import Sweep, axis, chain, grid, override, zipped
from encdec_jax.train.config import OptimConfig, TrainConfig

QUESTION = "At equal training FLOPs on a little text, does an encoder-decoder or a prefix LM beat a causal LM?"
BASELINE = "causal_lm"

BUDGETS = {  # training FLOPs -> widths whose loss is to have its minimum inside, seeds
    4.2e10: ((8, 16, 32), (0, 1)),
    1.26e11: ((8, 16, 32), (0,)),
    3.78e11: ((16, 24, 64), (0,)),
}
ARCHS = ("causal_lm", "prefix_lm", "enc_dec")
RATE = 0.35  # learning rate x d_model: README.md says how chosen

CONFOUNDERS = {
    "updates per run": "at least 500; a batch of 2 windows, of 1 where 2 leave too few (width 32, smallest budget)",
    "learning rate": "tuned for each architecture in experiments/recipes; 0.35 / d_model came out for all three",
    "depth": "every token passes 2 layers, of one stack or of encoder or decoder; width alone varies size",
    "attention counting": "budgets count what the mask shows; counted as computed, masked scores too, is a column",
    "prefix split": "training and scoring cut windows in the middle; random cuts were no better (experiments/recipes)",
    "loss tokens": "causal_lm learns from every token, the others from the second half: part of what is compared",
    "heads": "one attention head, as wide as the model, at every size",
    "positions": "RoPE's base is 100 for all: with 10,000, prefix_lm learns to tell neighbours apart by luck (LOG.md)",
    "seeds": "two at the smallest budget; intervals rest on the scatter around the curves and on the held-out windows",
}

LARGEST = max(BUDGETS)
PREDICTIONS = [
    Prediction(
        "enc_dec is worse than causal_lm at the largest budget",
        lambda found: found.comparison("enc_dec", LARGEST).gap.above(0),
    ),
    Prediction(
        "prefix_lm is worse than causal_lm at the largest budget",
        lambda found: found.comparison("prefix_lm", LARGEST).gap.above(0),
    ),
    Prediction(
        "enc_dec needs at least 1.5 times causal_lm's compute at the largest budget",
        lambda found: found.comparison("enc_dec", LARGEST).multiplier.above(1.5),
    ),
    Prediction(
        "the gap between prefix_lm and causal_lm is smaller at the largest budget than at the smallest",
        lambda found: (
            found.comparison("prefix_lm", LARGEST).gap.value < found.comparison("prefix_lm", min(BUDGETS)).gap.value
        ),
    ),
]


def model(arch: str, d_model: int) -> ModelConfig:
    return preset(arch, d_model=d_model, dec_layers=2, head_dim=d_model, vocab_size=ByteVocab().size, rope_theta=100.0)


BASE = RunConfig(
    model=model("causal_lm", 8),
    data=DataConfig(task="bible_en", vocab="bytes", length=256),
    objective=ObjectiveConfig("causal_lm", prefix="half"),
    optim=OptimConfig(warmup=0.1),
    train=TrainConfig(batch_size=2, checkpoint_every=400_000),
    evaluate=EvalConfig(prefix=128, suffix=128, windows=512),
)


def sizes(arch: str, widths: Sequence[int]) -> Sweep:
    """An architecture at every width, and the learning rate that goes with it."""
    return grid(
        axis("objective.name", "causal_lm" if arch == "causal_lm" else "prefix_lm"),
        zipped(
            axis("model", *(model(arch, d_model) for d_model in widths)),
            axis("optim.lr", *(RATE / d_model for d_model in widths)),
        ),
    )


def runs() -> Iterator[RunConfig]:
    for budget, (widths, seeds) in BUDGETS.items():
        points = grid(chain(*(sizes(arch, widths) for arch in ARCHS)), axis("train.seed", *seeds))
        yield from match([override(BASE, point) for point in points], train_flops=budget)


def label(run: RunConfig) -> str:
    return run.model.arch

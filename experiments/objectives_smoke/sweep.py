"""Does every objective train, and what is each worth in the fair loss after as much compute?

    encdec prepare --task bible_en
    encdec run experiments/objectives_smoke        24 runs of seconds each
    encdec report experiments/objectives_smoke

One tiny model an objective, on the shipped text, in bytes: an encoder-decoder where it can read the objective, one
stream where it can't. The last tenth of the tokens of each is prefix language modelling, so that all can be scored on
the same held-out suffixes. Seconds a run tell that things work, not which objective is better.
"""

from collections.abc import Iterator

from encdec_jax.compute.match import match
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig, Part
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.data.objectives.objective import required_vocab_size
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.evaluate.config import EvalConfig
from encdec_jax.model.presets import preset
from encdec_jax.sweep.algebra import axis, chain, override, zipped
from encdec_jax.train.config import OptimConfig, TrainConfig

QUESTION = "Does every objective train, and what is each worth in the fair loss after as much compute?"
BASELINE = "prefix_lm"
CONFOUNDERS = {
    "architecture": "an encoder-decoder, but one stream for causal_lm, causal_fim, masked_lm, lm_then_masked",
    "tuning": "the last tenth of each run's tokens is prefix LM with random cuts, its compute charged",
    "learning rate": "0.5 / d_model for all; tuned for none",
    "padding": "rows have room for the longest segment of any part; FLOPs of padding are not charged",
    "seeds": "one run of each: differences below 0.1 bits per byte are noise",
}
PREDICTIONS: list = []

BUDGET, D_MODEL, LENGTH = 2e10, 16, 128
PREFIX = ObjectiveConfig("prefix_lm", "random")


def then(first: ObjectiveConfig, second: ObjectiveConfig) -> ObjectiveConfig:
    """Six tenths of the tokens on one objective, three on another, one of tuning."""
    return ObjectiveConfig("schedule", parts=(Part(0.6, first), Part(0.3, second), Part(0.1, PREFIX)))


def tuned(name: str, **changes: object) -> ObjectiveConfig:
    return ObjectiveConfig(name, tuning=0.1, **changes)


PARTS = (Part(1.0, ObjectiveConfig("span_corruption")), Part(1.0, ObjectiveConfig("prefix_lm")))
OBJECTIVES = {  # label -> architecture, objective
    "causal_lm": ("causal_lm", ObjectiveConfig("causal_lm")),
    "causal_fim": ("causal_lm", tuned("fill_in_the_middle", source_loss=True)),
    "masked_lm": ("prefix_lm", tuned("masked_lm")),
    "lm_then_masked": ("prefix_lm", then(ObjectiveConfig("causal_lm"), ObjectiveConfig("masked_lm"))),
    "prefix_lm": ("enc_dec", ObjectiveConfig("prefix_lm")),
    "random_prefix": ("enc_dec", PREFIX),
    "lm_adaptation": ("enc_dec", then(ObjectiveConfig("span_corruption"), ObjectiveConfig("prefix_lm"))),
    "mixture": ("enc_dec", tuned("mixture", parts=PARTS)),
    "bart": ("enc_dec", tuned("bart", noise_density=0.3)),
    "text_infilling": ("enc_dec", tuned("text_infilling", noise_density=0.3)),
    "random_gaps": ("enc_dec", tuned("gap_sentences", sentences="random")),
    **{
        name: ("enc_dec", tuned(name))
        for name in (
            "fill_in_the_middle",
            "span_corruption",
            "scattered_spans",
            "bert_style",
            "mass_style",
            "drop_tokens",
            "deshuffling",
            "ul2",
            "t5gemma2",
            "token_deletion",
            "sentence_permutation",
            "document_rotation",
            "gap_sentences",
        )
    },
}

DATA = DataConfig(task="bible_en", vocab="bytes", length=LENGTH)
IDS = max(required_vocab_size(objective_of(objective), ByteVocab(), DATA) for _, objective in OBJECTIVES.values())
MODELS = {
    arch: preset(arch, d_model=D_MODEL, dec_layers=2, head_dim=D_MODEL, vocab_size=IDS, rope_theta=100.0)
    for arch in {arch for arch, _ in OBJECTIVES.values()}
}
BASE = RunConfig(
    model=MODELS["enc_dec"],
    data=DATA,
    objective=OBJECTIVES["prefix_lm"][1],
    optim=OptimConfig(lr=0.5 / D_MODEL),
    train=TrainConfig(batch_size=4, steps_per_call=50),
    evaluate=EvalConfig(prefix=64, suffix=64, windows=256),
)
LABELS = {(arch, objective): label for label, (arch, objective) in OBJECTIVES.items()}


def runs() -> Iterator[RunConfig]:
    points = chain(
        *(zipped(axis("model", MODELS[arch]), axis("objective", objective)) for arch, objective in OBJECTIVES.values())
    )
    yield from match([override(BASE, point) for point in points], train_flops=BUDGET, min_updates=150)


def label(run: RunConfig) -> str:
    return LABELS[run.model.arch, run.objective]

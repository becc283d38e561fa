"""English to Spanish at equal training FLOPs: what does it cost to mask the source, to learn it too, to read its top?

    encdec plan experiments/mt
    encdec run experiments/mt            stages in rising cost: any prefix of the sweep is a table that can be read
    encdec report experiments/mt

Zhang et al. 2022 (arXiv 2202.00528) crossed architectures with a loss on the source and with the layers that a target
reads; Bansal et al. 2022 and Ghorbani et al. 2021 (arXiv 2109.07740) scaled encoder and decoder apart. Stage 0 tunes
each variant's learning rate; then come budgets a factor 3 apart, the two largest for eight and three of the variants,
and between these encoders and decoders of 1 to 8 layers on equal data. README.md says how `RATE` follows from stage 0.
"""

from collections.abc import Iterator
from itertools import chain

from encdec_jax.compute.match import match
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.evaluate.config import EvalConfig
from encdec_jax.laws.interval import Interval
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.presets import preset
from encdec_jax.study.findings import Findings
from encdec_jax.study.predictions import Prediction
from encdec_jax.sweep.algebra import axis, grid, override, zipped
from encdec_jax.train.config import OptimConfig, TrainConfig

QUESTION = "English to Spanish at equal training FLOPs: what do a masked source, a loss on it, and its top layer cost?"
BASELINE = "enc_dec"
ORDER = "listed"  # cheap stages first: what is done at any time is a table that can be read

VARIANTS = {  # label -> architecture, loss on the source; without a word of it, the target reads the top
    "enc_dec": ("enc_dec", False),
    "prefix_lm": ("prefix_lm", False),  # one stack, whose target reads the source layer by layer
    "causal_lm": ("causal_lm", False),  # the same
    "causal_lm with source loss": ("causal_lm", True),
    "enc_dec causal": ("enc_dec_causal", False),
    "enc_dec layer by layer": ("layerwise", False),
    "prefix_lm top": ("enc_dec_shared", False),
    "causal_lm top": ("causal_lm_top", False),
    "enc_dec causal layer by layer": ("layerwise_causal", False),
    "enc_dec causal with source loss": ("enc_dec_causal", True),
    "enc_dec causal layer by layer with source loss": ("layerwise_causal", True),
    "causal_lm top with source loss": ("causal_lm_top", True),
}
MAIN = tuple(VARIANTS)[:8]  # at the second largest budget
CORE = ("enc_dec", "prefix_lm", "causal_lm")  # at the largest budget
BUDGETS = (1e11, 3e11, 9e11, 2.7e12, 8.1e12)  # training FLOPs, attention as its mask requires
MIDDLE = 9e11  # with three seeds of the middle size
LAYERS = 4  # that each token passes, of one stack, or of encoder or decoder
SPREAD = (0.6, 1.5, 3.75)  # sizes, over that of `weights`
TRIED = (0.175, 0.35, 0.7, 1.4)  # stage 0: learning rate x d_model
RATE: dict[str, float] | None = dict.fromkeys(VARIANTS, 0.35)  # label -> learning rate x d_model; None: only stage 0
DEPTHS, WIDTH, TOKENS = (1, 2, 4, 8), 32, 2_400_000  # of encoders and decoders on equal data, once through it
APART = "encoder against decoder"
VOCAB = 1024

CONFOUNDERS = {
    "learning rate": "stage 0 tunes each variant's, at four layers and the smallest budget",
    "what a source is worth": "a model so small may not use it, and then nothing about it can matter: analysis.ipynb"
    " measures the loss under other pairs' sources",
    "the mask alone": "removed by an ablation: enc_dec causal is enc_dec but for one mask, and causal_lm"
    " prefix_lm but for the same",
    "parameters": "an encoder-decoder has twice a stack's layers and cross-attention: compute is equal, parameters are"
    " not; enc_dec_shared has one stack's",
    "loss tokens": "a loss on the source is taken of twice the tokens, at the same compute",
    "attention counting": "as masked, within pairs; a row's other pairs are computed too, and not charged",
    "updates per run": "at least 500; 2 rows an update of about two pairs each, 1 where those leave too few",
    "pairs": "3 % are longer than 96 pieces on a side and left out, of training and of scoring",
    "heads and positions": "one head as wide as the model; RoPE's base is 100; targets follow their sources",
    "seeds": "three at the middle budget and size, one elsewhere",
    "repeats": "no run sees a pair more than 4.1 times",
}


def gap(found: Findings, label: str, other: str, budget: float, before: float | None = None) -> Interval:
    """`Findings.gap`, once all sizes are done."""
    return found.gap(label, other, budget, before, len(SPREAD))


PREDICTIONS = [
    Prediction(
        "at 9e11 FLOPs causal_lm is worse than prefix_lm, which is it without a mask on the source",
        lambda found: gap(found, "causal_lm", "prefix_lm", MIDDLE).above(0),
    ),
    Prediction(
        "at 9e11 FLOPs enc_dec with a causal source is worse than enc_dec",
        lambda found: gap(found, "enc_dec causal", "enc_dec", MIDDLE).above(0),
    ),
    Prediction(
        "at 9e11 FLOPs causal_lm with a loss on the source is worse than without",
        lambda found: gap(found, "causal_lm with source loss", "causal_lm", MIDDLE).above(0),
    ),
    Prediction(
        "at 9e11 FLOPs enc_dec layer by layer is within 0.03 bits per byte of enc_dec",
        lambda found: gap(found, "enc_dec layer by layer", "enc_dec", MIDDLE).within(0.03),
    ),
    Prediction(
        "at 9e11 FLOPs a prefix_lm that reads the top is worse than one that reads layer by layer",
        lambda found: gap(found, "prefix_lm top", "prefix_lm", MIDDLE).above(0),
    ),
    Prediction(
        "at 9e11 FLOPs a causal_lm that reads the top is worse than one that reads layer by layer",
        lambda found: gap(found, "causal_lm top", "causal_lm", MIDDLE).above(0),
    ),
    Prediction(
        "at 9e11 FLOPs enc_dec with a causal source is worse with a loss on it than without",
        lambda found: gap(found, "enc_dec causal with source loss", "enc_dec causal", MIDDLE).above(0),
    ),
    Prediction(
        "the gap of causal_lm to enc_dec is wider at 8.1e12 FLOPs than at 3e11, against the claim that it narrows",
        lambda found: gap(found, "causal_lm", "enc_dec", 8.1e12, 3e11).above(0),
    ),
    Prediction(
        "at 8.1e12 FLOPs enc_dec is better than causal_lm",
        lambda found: gap(found, "causal_lm", "enc_dec", 8.1e12).above(0),
    ),
]


def weights(budget: float) -> float:
    """Parameters but for embeddings, of one stack, by which the sizes tried at a budget go."""
    return 1e4 * (budget / 1e11) ** 0.7


def model(arch: str, size: float) -> ModelConfig:
    """A model of about so many parameters without embeddings, half as many again where sources have blocks."""
    a_layer, of = (28, 1.5 * size) if ARCHS[arch].own_encoder else (12, size)
    return shaped(arch, max(4, 2 * round((of / (a_layer * LAYERS)) ** 0.5 / 2)), LAYERS)


def shaped(arch: str, d_model: int, layers: int, encoder: int | None = None) -> ModelConfig:
    return preset(
        arch,
        d_model=d_model,
        dec_layers=layers,
        enc_layers=encoder,
        head_dim=d_model,
        vocab_size=VOCAB,
        rope_theta=100.0,
    )


BASE = RunConfig(
    model=model("enc_dec", 1e4),
    data=DataConfig(task="bible_en_es", vocab=f"spm{VOCAB}", source_length=96, target_length=96),
    objective=ObjectiveConfig("seq2seq"),
    optim=OptimConfig(warmup=0.1),
    train=TrainConfig(batch_size=2, checkpoint_every=400_000),
    evaluate=EvalConfig(windows=1024),
)


def run(name: str, size: float, rate: float, *seeds: int) -> list[RunConfig]:
    """One variant with a learning rate of `rate` / d_model, once a seed."""
    arch, source_loss = VARIANTS[name]
    made = model(arch, size)
    point = zipped(
        axis("model", made),
        axis("objective.source_loss", source_loss),
        axis("optim.lr", rate / made.decoder.d_model),
    )
    return [override(BASE, one) for one in grid(point, axis("train.seed", *seeds))]


def everything() -> Iterator[RunConfig]:
    """All runs, in stages; some of the second are those of stage 0."""
    tuning = [run(name, SPREAD[1] * weights(BUDGETS[0]), tried, 0) for name in VARIANTS for tried in TRIED]
    yield from match(chain.from_iterable(tuning), train_flops=BUDGETS[0])
    if RATE is None:
        return
    for budget in BUDGETS:
        names = CORE if budget == BUDGETS[-1] else MAIN if budget == BUDGETS[-2] else tuple(VARIANTS)
        if budget == BUDGETS[-1]:
            yield from apart(RATE["enc_dec"])
        sizes = [(name, spread * weights(budget)) for spread in SPREAD for name in names]
        points = [run(name, size, RATE[name], 0) for name, size in sizes]
        yield from match(chain.from_iterable(points), train_flops=budget)
        if budget == MIDDLE:
            again = [run(name, SPREAD[1] * weights(budget), RATE[name], 1, 2) for name in names]
            yield from match(chain.from_iterable(again), train_flops=budget)


def apart(rate: float) -> list[RunConfig]:
    """Encoders and decoders of every depth, of one width, on equal data."""
    points = grid(
        axis("model", *(shaped("enc_dec", WIDTH, decoder, encoder) for encoder in DEPTHS for decoder in DEPTHS)),
        axis("optim.lr", rate / WIDTH),
        axis("train.tokens", TOKENS),
    )
    return [override(BASE, point) for point in points]


def runs() -> Iterator[RunConfig]:
    yield from dict.fromkeys(everything())


def label(run: RunConfig) -> str:
    of = (run.model.arch, run.objective.source_loss)
    return APART if run.budget_flops is None else next(name for name, variant in VARIANTS.items() if variant == of)

"""At equal training FLOPs on a little text: how deep should a model be, and does its architecture or its recipe matter?

    encdec plan experiments/shape
    encdec run experiments/shape            stages in rising cost: any prefix of the sweep is a table that can be read
    encdec report experiments/shape

Stage 0 tunes the learning rate of shallow, middling and deep models. The stages behind it have a budget each, a factor
3 apart: four depths, three sizes a depth, for a causal LM and an encoder-decoder. README.md says how `RATE` follows
from stage 0, and what each prediction is judged by.
"""

from collections.abc import Iterator
from itertools import chain
from math import isclose

from encdec_jax.compute.match import match
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.evaluate.config import EvalConfig
from encdec_jax.laws.interval import Interval
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.presets import preset
from encdec_jax.study.findings import Findings
from encdec_jax.study.predictions import Prediction
from encdec_jax.sweep.algebra import axis, grid, override, zipped
from encdec_jax.train.config import OptimConfig, TrainConfig

QUESTION = "At equal training FLOPs on a little text: how deep should a causal LM and an encoder-decoder be?"
BASELINE = "causal_lm 02"
ORDER = "listed"  # cheap stages first: what is done at any time is a table that can be read

DEPTHS = (2, 4, 8, 24)  # layers in all: of one stack, or half of them in the encoder and half in the decoder
ARCHS = ("causal_lm", "enc_dec")
BUDGETS = (1e11, 3e11, 9e11, 2.7e12, 8.1e12)  # training FLOPs, attention as its mask requires
MIDDLE = 9e11  # with three seeds of the middle size, and with both recipes
SPREAD = (0.4, 1.0, 2.5)  # sizes, over the one that is expected to be about the best
OTHER = " with other rate"  # behind the labels of the ablation
TUNED, TRIED = (2, 8, 24), (0.0875, 0.175, 0.35, 0.7)  # stage 0: depths, and learning rates x d_model
RATE: dict[str, tuple[float, float]] | None = {"causal_lm": (0.35, 0.5), "enc_dec": (0.35, 0.25)}  # c, p of stage 0

CONFOUNDERS = {
    "learning rate": "stage 0 tunes it for either architecture at 2, 8 and 24 layers; removed by the ablation: at the"
    " middle budget each depth is trained with the rate that falls with depth and with the one that does not",
    "updates per run": "at least 500; 4 windows of 128 bytes an update, fewer where those leave too few",
    "heads": "one attention head, as wide as the model: wide shallow models may want several",
    "width": "deep models of so few parameters are 4 to 48 wide, narrower than any in the literature",
    "attention": "costs per token and layer, whatever the width: narrow deep models pay more of it; counted as masked",
    "embeddings": "259 rows of the model's width, tied: a larger share of a shallow model's parameters",
    "loss tokens": "causal_lm learns from every token, enc_dec from the second half: compare depths, not architectures",
    "seeds": "three at the middle budget and size, one elsewhere",
    "repeats": "none sees its 8.1 MB of text more than 4 times",
}


def named(arch: str, depth: int) -> str:
    """The label of a depth, so that labels stand in the order of depths."""
    return f"{arch} {depth:02}"


def gap(found: Findings, label: str, other: str, budget: float, before: float | None = None) -> Interval:
    """`Findings.gap`, once all sizes are done."""
    return found.gap(label, other, budget, before, len(SPREAD))


def best(found: Findings, arch: str, budget: float) -> int:
    """The depth whose best size has the least loss."""
    return min(DEPTHS, key=lambda depth: found.optimum(named(arch, depth), budget, len(SPREAD)).loss.value)


PREDICTIONS = [
    Prediction(
        "at 9e11 FLOPs a causal LM of 24 layers is worse than one of 4, by more than 0.1 bits per byte",
        lambda found: gap(found, "causal_lm 24", "causal_lm 04", MIDDLE).above(0.1),
    ),
    Prediction(
        "at 9e11 FLOPs an encoder-decoder of 12 + 12 layers is worse than one of 2 + 2, by more than 0.1",
        lambda found: gap(found, "enc_dec 24", "enc_dec 04", MIDDLE).above(0.1),
    ),
    Prediction(
        "at 9e11 FLOPs an encoder-decoder of 2 + 2 layers is better than one of 1 + 1",
        lambda found: gap(found, "enc_dec 04", "enc_dec 02", MIDDLE).below(0),
    ),
    Prediction(
        "at 9e11 FLOPs causal LMs of 2 and 4 layers are within 0.05 of each other",
        lambda found: gap(found, "causal_lm 04", "causal_lm 02", MIDDLE).within(0.05),
    ),
    Prediction(
        "the best of the depths is no smaller at 8.1e12 FLOPs than at 1e11, for both architectures (point estimates)",
        lambda found: all(best(found, arch, BUDGETS[-1]) >= best(found, arch, BUDGETS[0]) for arch in ARCHS),
    ),
    Prediction(
        "what 24 layers cost a causal LM against 4 is less at 8.1e12 FLOPs than at 1e11",
        lambda found: gap(found, "causal_lm 24", "causal_lm 04", BUDGETS[-1], BUDGETS[0]).below(0),
    ),
    Prediction(
        "at 9e11 FLOPs the other recipe's best depth is the same or next to it, for both (point estimates)",
        lambda found: all(
            abs(DEPTHS.index(best(found, arch, MIDDLE)) - other_best(found, arch)) <= 1 for arch in ARCHS
        ),
    ),
]


def other_best(found: Findings, arch: str) -> int:
    """The place of the best depth under the recipe of the ablation; at 2 layers the recipes are one."""
    names = [named(arch, 2), *(named(arch, depth) + OTHER for depth in DEPTHS[1:])]
    losses = [found.optimum(name, MIDDLE, len(SPREAD)).loss.value for name in names]
    return losses.index(min(losses))


def spread(depth: int, budget: float) -> tuple[float, ...]:
    """Sizes of a depth, over that of `weights`. Of 24 layers the largest of three was the best at the smallest budget
    (README.md): they have a larger one there, and are a step larger beyond.
    """
    larger = SPREAD[-1] * SPREAD[-1] / SPREAD[-2]
    if depth < max(DEPTHS):
        return SPREAD
    return (*SPREAD, larger) if budget == BUDGETS[0] else (*SPREAD[1:], larger)


def weights(budget: float) -> float:
    """Parameters but for embeddings about which the best size of a causal LM is looked for."""
    return 1e4 * (budget / 1e11) ** 0.7


def model(arch: str, depth: int, size: float) -> ModelConfig:
    """A model of about so many parameters without embeddings, 12 d^2 a layer and 4 d^2 more where it reads a source.

    An encoder-decoder has half as many again: each of its tokens passes half of its layers.
    """
    stack = depth if arch == "causal_lm" else depth // 2
    a_layer, of = (12, size) if arch == "causal_lm" else (28, 1.5 * size)
    d_model = max(4, 2 * round((of / (a_layer * stack)) ** 0.5 / 2))
    return preset(
        arch, d_model=d_model, dec_layers=stack, head_dim=d_model, vocab_size=ByteVocab().size, rope_theta=100.0
    )


BASE = RunConfig(
    model=model("causal_lm", 2, 1e4),
    data=DataConfig(task="bible_en", vocab="bytes", length=128),
    optim=OptimConfig(warmup=0.1),
    train=TrainConfig(batch_size=4, checkpoint_every=400_000),
    evaluate=EvalConfig(prefix=64, suffix=64, windows=1024),
)


def run(arch: str, depth: int, size: float, rate: float, *seeds: int) -> list[RunConfig]:
    """One model with a learning rate of `rate` / d_model, once a seed."""
    made = model(arch, depth, size)
    objective = ObjectiveConfig("causal_lm" if arch == "causal_lm" else "prefix_lm", prefix="half")
    point = zipped(axis("model", made), axis("objective", objective), axis("optim.lr", rate / made.decoder.d_model))
    return [override(BASE, one) for one in grid(point, axis("train.seed", *seeds))]


def rate(arch: str, depth: int, other: bool = False) -> float:
    """Learning rate x d_model: c (2 / depth)^p as stage 0 found it; the other recipe does not scale, or by the root."""
    assert RATE is not None
    c, p = RATE[arch]
    return c * (2 / depth) ** (p if not other else 0.0 if p else 0.5)


def everything() -> Iterator[RunConfig]:
    """All runs, in stages; some of the second are those of stage 0."""
    tuning = [run(arch, depth, weights(BUDGETS[0]), tried, 0) for arch in ARCHS for depth in TUNED for tried in TRIED]
    yield from match(chain.from_iterable(tuning), train_flops=BUDGETS[0])
    if RATE is None:
        return
    for budget in BUDGETS:
        shapes = [
            (arch, depth, over * weights(budget))
            for arch in ARCHS
            for depth in DEPTHS
            for over in spread(depth, budget)
        ]
        points = [run(arch, depth, size, rate(arch, depth), 0) for arch, depth, size in shapes]
        yield from match(chain.from_iterable(points), train_flops=budget)
        if budget == MIDDLE:
            again = [
                run(arch, depth, spread(depth, budget)[1] * weights(budget), rate(arch, depth), 1, 2)
                for arch in ARCHS
                for depth in DEPTHS
            ]
            other = [run(arch, depth, size, rate(arch, depth, True), 0) for arch, depth, size in shapes if depth > 2]
            yield from match(chain.from_iterable(again + other), train_flops=budget)


def runs() -> Iterator[RunConfig]:
    yield from dict.fromkeys(everything())


def label(run: RunConfig) -> str:
    arch, stacks = run.model.arch, (run.model.encoder, run.model.decoder)
    depth = sum(stack.n_layers for stack in stacks if stack)
    if RATE is None or run.budget_flops != MIDDLE:
        return named(arch, depth)
    chosen = isclose(run.optim.lr * run.model.decoder.d_model, rate(arch, depth))
    return named(arch, depth) if chosen else named(arch, depth) + OTHER

"""Which split of layers is best at equal parameters and compute, of text whose source is three times its target?

    encdec plan experiments/split/lm_3to1
    encdec run experiments/split/lm_3to1
    encdec report experiments/split/lm_3to1

The design, its stages and its confounders are those of `experiments/split/design.py`.
"""

import runpy
from collections.abc import Iterator
from pathlib import Path

from encdec_jax.config import RunConfig
from encdec_jax.study.predictions import Prediction

DESIGN = runpy.run_path(str(Path(__file__).resolve().parents[1] / "design.py"))
QUESTION = (
    "Which split of layers is best at equal parameters and compute, of text whose source is three times its target?"
)
BASELINE, CONFOUNDERS, SMALL = DESIGN["BASELINE"], DESIGN["CONFOUNDERS"], DESIGN["SMALL"]
ORDER = "listed"  # stage by stage
PREDICTIONS = [
    Prediction(
        "at 3e11 FLOPs, enc_dec 2/3 is at least 0.02 bits per byte worse than enc_dec 1/2",
        lambda found: found.comparison("enc_dec 2/3", SMALL).gap.above(0.02),
    ),
    Prediction(
        "at 3e11 FLOPs, enc_dec 1/6 is the best split: better than enc_dec 1/2",
        lambda found: found.comparison("enc_dec 1/6", SMALL).gap.below(0),
    ),
    Prediction(
        "at 3e11 FLOPs, causal_lm is at least 0.05 bits per byte better than enc_dec 1/2",
        lambda found: found.comparison("causal_lm", SMALL).gap.below(-0.05),
    ),
]


def runs() -> Iterator[RunConfig]:
    yield from DESIGN["Reading"](192, ("middle", "seeds", "tokens", "sizes")).runs()

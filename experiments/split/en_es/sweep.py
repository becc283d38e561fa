"""Which split of layers is best at equal parameters and compute, of verse pairs from English to Spanish?

    encdec plan experiments/split/en_es
    encdec run experiments/split/en_es
    encdec report experiments/split/en_es

The design, its stages and its confounders are those of `experiments/split/design.py`.
"""

import runpy
from collections.abc import Iterator
from pathlib import Path

from encdec_jax.config import RunConfig
from encdec_jax.study.predictions import Prediction

DESIGN = runpy.run_path(str(Path(__file__).resolve().parents[1] / "design.py"))
QUESTION = "Which split of layers is best at equal parameters and compute, of verse pairs from English to Spanish?"
BASELINE, CONFOUNDERS, SMALL = DESIGN["BASELINE"], DESIGN["CONFOUNDERS"], DESIGN["SMALL"]
ORDER = "listed"  # stage by stage
PREDICTIONS = [
    Prediction(
        "at 3e11 FLOPs, enc_dec 2/3 is at least 0.02 bits per byte worse than enc_dec 1/2",
        lambda found: found.comparison("enc_dec 2/3", SMALL).gap.above(0.02),
    ),
    Prediction(
        "at 2.7e12 FLOPs and 12 layers, enc_dec 2/3 is within 0.05 bits per byte of enc_dec 1/2 or better",
        lambda found: found.comparison("enc_dec 2/3", 9 * SMALL).gap.below(0.05),
    ),
    Prediction(
        "at 3e11 FLOPs, causal_lm is worse than enc_dec 1/2",
        lambda found: found.comparison("causal_lm", SMALL).gap.above(0),
    ),
]


def runs() -> Iterator[RunConfig]:
    yield from DESIGN["Reading"](0, ("middle", "seeds", "tokens", "sizes", "rates", "larger", "deeper")).runs()

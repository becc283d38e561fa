"""Which split of layers is best at equal parameters and compute, of text cut in the middle?

    encdec plan experiments/split/lm_1to1
    encdec run experiments/split/lm_1to1
    encdec report experiments/split/lm_1to1

The design, its stages and its confounders are those of `experiments/split/design.py`.
"""

import runpy
from collections.abc import Iterator
from pathlib import Path

from encdec_jax.config import RunConfig
from encdec_jax.study.predictions import Prediction

DESIGN = runpy.run_path(str(Path(__file__).resolve().parents[1] / "design.py"))
QUESTION = "Which split of layers is best at equal parameters and compute, of text cut in the middle?"
BASELINE, CONFOUNDERS, SMALL = DESIGN["BASELINE"], DESIGN["CONFOUNDERS"], DESIGN["SMALL"]
ORDER = "listed"  # stage by stage
PREDICTIONS = [
    Prediction(
        "at 3e11 FLOPs, enc_dec 2/3 is at least 0.02 bits per byte worse than enc_dec 1/2",
        lambda found: found.comparison("enc_dec 2/3", SMALL).gap.above(0.02),
    ),
    Prediction(
        "at 3e11 FLOPs, enc_dec 1/3 is better than enc_dec 1/2",
        lambda found: found.comparison("enc_dec 1/3", SMALL).gap.below(0),
    ),
    Prediction(
        "at 3e11 FLOPs, causal_lm is at least 0.05 bits per byte better than enc_dec 1/2",
        lambda found: found.comparison("causal_lm", SMALL).gap.below(-0.05),
    ),
    Prediction(
        "the gap of causal_lm to enc_dec 1/2 is no smaller at 9e11 FLOPs than at 3e11",
        lambda found: (
            found.comparison("causal_lm", 3 * SMALL).gap.value <= found.comparison("causal_lm", SMALL).gap.value
        ),
    ),
]


def runs() -> Iterator[RunConfig]:
    yield from DESIGN["Reading"](128, ("middle", "seeds", "tokens", "sizes", "rates", "larger", "deeper")).runs()

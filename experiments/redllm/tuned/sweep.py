"""RedLLM's second half: the models of `pretrained` tuned on pairs, quality against the FLOPs of inference.

    encdec run experiments/redllm/pretrained
    encdec run experiments/redllm/tuned

Every model of the two budgets is tuned on as many tokens of verse pairs, English to Spanish; loss is on the target.
"""

import runpy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.evaluate.config import EvalConfig
from encdec_jax.study.predictions import Prediction
from encdec_jax.sweep.identity import run_id
from encdec_jax.train.config import OptimConfig

PRETRAINED = runpy.run_path(str(Path(__file__).resolve().parents[1] / "pretrained" / "sweep.py"))
QUESTION = "After RedLLM's pretraining and tuning on pairs, which architecture is best for its FLOPs of inference?"
BASELINE = "causal_lm"
ORDER = "listed"  # budgets in rising order
TOKENS = 1_024_000  # of tuning, 2,000 updates of a row of 256 + 256
RATE = 0.175  # x 1 / d_model, constant: half the peak of pretraining
CONFOUNDERS = {
    "pretraining": "equal in FLOPs, so an encoder-decoder's has read about twice the tokens",
    "tuning": "equal in tokens, one learning rate; half the peak of pretraining, where the paper takes a tenth",
    "language": "pretraining saw English alone: tuning teaches Spanish too, in a way that FLAN teaches no language",
    "packing": "pairs are packed and none sees its neighbours; a verse longer than 256 bytes is left out",
    "seeds": "one",
}
PREDICTIONS: list[Prediction] = []  # README.md has them: analysis.ipynb judges them, by size and FLOPs of inference


def runs() -> Iterator[RunConfig]:
    for budget in (9e11, 2.7e12):
        for start in PRETRAINED["at"](budget):
            yield replace(
                start,
                data=DataConfig("bible_en_es", "bytes"),
                objective=ObjectiveConfig("seq2seq"),
                optim=OptimConfig(lr=RATE / start.model.decoder.d_model, schedule="constant", warmup=0.05),
                train=replace(
                    start.train, tokens=TOKENS, batch_size=1, init_from=f"experiments/redllm/pretrained/{run_id(start)}"
                ),
                evaluate=EvalConfig(windows=512),
                budget_flops=None,
            )


def label(run: RunConfig) -> str:
    return run.model.arch

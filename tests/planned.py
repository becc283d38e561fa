"""A stand-in for a loaded experiment: planned runs for the rows of a simulated study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from encdec_jax.config import RunConfig
from encdec_jax.model.config import ModelConfig, StackConfig
from encdec_jax.study.predictions import Prediction
from encdec_jax.sweep.experiment import Experiment

RUN = RunConfig(ModelConfig("causal_lm", 300, StackConfig(1, 16, 2, 2, 8, 32)))


def experiment(table: pl.DataFrame, **changes: Any) -> Experiment:
    """An experiment whose runs, all `RUN`, have the table's ids; with one prediction that holds, one that fails."""
    fields = {
        "name": "quickstart",
        "folder": Path("experiments/quickstart"),
        "question": "Does an encoder-decoder win?",
        "baseline": "causal_lm",
        "confounders": {"depth": "1+1 blocks against 2"},
        "predictions": [
            Prediction("enc_dec is worse at 1e12", lambda f: f.comparison("enc_dec", 1e12).gap.above(0)),
            Prediction("prefix_lm is better at 1e12", lambda f: f.comparison("prefix_lm", 1e12).gap.below(0)),
            Prediction("layerwise is best", lambda f: f.comparison("layerwise", 1e12).gap.below(0)),
        ],
        "runs": dict.fromkeys(table["run_id"], RUN),
        "labels": dict(table.select("run_id", "label").iter_rows()),
    }
    return Experiment(**{**fields, **changes})

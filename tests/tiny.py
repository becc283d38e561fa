"""Runs and experiments that take a second, on a cache of random text."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from encdec_jax.config import RunConfig
from encdec_jax.data.cache import write_cache
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.corpus import FEATURES
from encdec_jax.data.origin import shipped
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.evaluate.config import EvalConfig
from encdec_jax.model.presets import preset
from encdec_jax.train.config import OptimConfig, TrainConfig

SUMMARY = {  # what every summary states, of a run that ended early
    "status": "diverged",
    "tokens_seen": 15,
    "updates": 1,
    "suffix_bits_per_byte": None,
    "wall_s": 1.0,
    "step_s": 1.0,
    "cache_digest": "d",
    "versions": {},
}
SWEEP = """
from tiny import tiny_run

QUESTION = "Does it work?"
BASELINE = "causal_lm"
CONFOUNDERS = {}
PREDICTIONS = []


def runs():
    for d_model in (8, 16):
        for arch in ("causal_lm", "enc_dec"):
            yield tiny_run(arch, d_model)
"""


def write_noise(task: str = "noise") -> None:
    """A token cache of random letters, under ENCDEC_CACHE."""
    random = np.random.default_rng(0)
    texts = {"train": random.integers(100, 126, (20, 400)), "validation": random.integers(100, 126, (4, 400))}
    splits = {split: [(row,) for row in rows] for split, rows in texts.items()}
    write_cache(task, ByteVocab(), ("targets",), splits, shipped if task in FEATURES else dict)


def tiny_run(
    arch: str = "causal_lm", d_model: int = 8, lr: float = 1e-2, updates: int = 60, **train: object
) -> RunConfig:
    """Windows of 32 tokens, 4 an update, a checkpoint every 20 updates."""
    return RunConfig(
        model=preset(arch, d_model=d_model, dec_layers=1, vocab_size=259),
        data=DataConfig(task="noise", length=32),
        objective=ObjectiveConfig("causal_lm" if arch == "causal_lm" else "prefix_lm"),
        optim=OptimConfig(lr=lr),
        train=TrainConfig(
            **{"tokens": updates * 128, "batch_size": 4, "steps_per_call": 5, "checkpoint_every": 20 * 128, **train}
        ),
        evaluate=EvalConfig(prefix=16, suffix=16, windows=40, batch_size=16),
    )


def write_experiment(folder: Path, sweep: str = SWEEP) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.py").write_text(sweep)
    return folder


def environment(**more: str) -> dict[str, str]:
    """Of a process that is to find the tests' helpers, on one CPU device."""
    root = Path(__file__).parents[1]
    return {
        **os.environ,
        "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "",
        **more,
    }


def encdec(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "encdec_jax", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), check=False, **options)

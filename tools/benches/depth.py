"""Compilation of a train step against depth: a scanned stack's is to be flat from 4 to 64 layers, whatever its period.

Processor time of tracing, lowering and compiling one update on a CPU, the least of `ROUNDS` taken in turn over depths,
and its ratio to that of the least depth. The last row is unrolled, for comparison.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

os.environ["JAX_PLATFORMS"] = "cpu"

import jax

from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.config import ExpertConfig, ModelConfig, StackConfig
from encdec_jax.train.config import TrainConfig
from encdec_jax.train.trainer import Trainer

DEPTHS, ROUNDS = (4, 16, 64), 2
STACK = StackConfig(n_layers=4, d_model=32, n_heads=2, n_kv_heads=2, head_dim=16, d_ff=64)
CASES: dict[str, ModelConfig] = {
    "causal_lm": ModelConfig("causal_lm", 64, decoder=STACK),
    "enc_dec": ModelConfig("enc_dec", 64, decoder=STACK, encoder=STACK),
    "layerwise": ModelConfig("layerwise", 64, decoder=STACK, encoder=STACK),
    "coordinated": ModelConfig("coordinated", 64, decoder=STACK),
    "windows, every 4th layer without": ModelConfig("causal_lm", 64, decoder=replace(STACK, window=8, global_every=4)),
    "every 2nd layer reads the source": ModelConfig(
        "enc_dec", 64, decoder=replace(STACK, cross_every=2), encoder=STACK
    ),
    "one layer, repeated": ModelConfig("causal_lm", 64, decoder=replace(STACK, distinct=1)),
    "experts in every 2nd layer": ModelConfig("causal_lm", 64, decoder=STACK, experts=ExpertConfig(4, every=2)),
    "enc_dec, unrolled": ModelConfig("enc_dec", 64, decoder=STACK, encoder=STACK, scan=False),
}


def main() -> None:
    jax.config.update("jax_enable_compilation_cache", False)
    print(f"{'':34}" + "".join(f"{depth:>5} layers" for depth in DEPTHS) + "   over the first")
    for name, model in CASES.items():
        depths = DEPTHS if model.scan else DEPTHS[:2]
        spent = {depth: float("inf") for depth in depths}
        for _ in range(ROUNDS):
            for depth in depths:
                spent[depth] = min(spent[depth], compiled(at(model, depth)))
        ratios = " ".join(f"{spent[depth] / spent[DEPTHS[0]]:.2f}" for depth in depths[1:])
        print(f"{name:34}" + "".join(f"{spent[depth]:>10.2f} s" for depth in depths) + f"   {ratios}", flush=True)


def at(model: ModelConfig, depth: int) -> ModelConfig:
    """The model with so many layers in each stack."""
    sides = {"decoder": replace(model.decoder, n_layers=depth)}
    if model.encoder is not None:
        sides["encoder"] = replace(model.encoder, n_layers=depth)
    return replace(model, **sides)


def compiled(model: ModelConfig) -> float:
    """Seconds of processor time, of all threads, until a model's update is compiled."""
    jax.clear_caches()
    objective = ObjectiveConfig("causal_lm" if not ARCHS[model.arch].own_stream else "prefix_lm")
    run = RunConfig(model, DataConfig(length=32), objective, train=TrainConfig(batch_size=2, steps_per_call=1))
    trainer = Trainer(run)
    start = time.process_time()
    trainer.lower().compile()
    return time.process_time() - start


if __name__ == "__main__":
    main()

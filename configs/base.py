"""One small run of any architecture, on the shipped text in bytes.

    encdec prepare --task bible_en
    encdec train --config=configs/base.py:enc_dec
    encdec train --config=configs/base.py:causal_lm --config.optim.lr=5e-3 --config.train.seed=1

The argument behind the colon is the architecture: a name of `encdec_jax.model.arch.ARCHS`.
"""

from ml_collections import ConfigDict, config_dict

from encdec_jax.config import RunConfig, to_dict
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.model.presets import preset
from encdec_jax.train.config import OptimConfig, TrainConfig

D_MODEL = 64


def get_config(arch: str = "enc_dec") -> ConfigDict:
    run = RunConfig(
        model=preset(arch, d_model=D_MODEL, dec_layers=2, vocab_size=259, head_dim=32),
        data=DataConfig(task="bible_en", length=256),
        objective=ObjectiveConfig("causal_lm" if arch == "causal_lm" else "prefix_lm"),
        optim=OptimConfig(lr=0.7 / D_MODEL),
        train=TrainConfig(tokens=2_000_000, batch_size=8),
    )
    config = ConfigDict(to_dict(run))
    config.budget_flops = config_dict.placeholder(float)
    return config

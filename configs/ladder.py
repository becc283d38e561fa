"""A compute-matched ladder from 1M to 8B parameters: on every rung equal training FLOPs and equal parameters.

    encdec count configs/ladder.py:1b-enc_dec-2/3
    encdec compile configs/ladder.py:1b-enc_dec-2/3 --topology v5e:16x16 --mesh fsdp=256
    tools/ladder            docs/ladder.md: every rung's counts, and what real TPUs would need for the large ones

The argument behind the colon is RUNG-FAMILY: a name of `RUNGS`, and causal_lm, prefix_lm, enc_dec-1/3, enc_dec-1/2 or
enc_dec-2/3 (the encoder's share of the layers). A rung is named by its non-embedding parameters. Its causal LM trains
on 20 tokens a parameter (Hoffmann et al., arXiv 2203.15556); the other families have its non-embedding parameters, and
train until they have spent its FLOPs. Windows are 1,024 tokens of source and 1,024 of target, as RedLLM's (arXiv
2510.26622). Rungs below 100M read bytes, for else most of their parameters would be embeddings.
"""

from fractions import Fraction

from ml_collections import ConfigDict, config_dict

from encdec_jax.compute.grid import grid
from encdec_jax.compute.ledger import count, parameters
from encdec_jax.config import RunConfig, to_dict
from encdec_jax.data.config import DataConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.errors import require
from encdec_jax.model.presets import preset
from encdec_jax.train.config import TrainConfig
from encdec_jax.train.transfer import recipe

RUNGS = {  # d_model and layers of the causal LM
    "1m": (192, 2),
    "3m": (256, 4),
    "10m": (384, 6),
    "30m": (640, 6),
    "70m": (768, 10),
    "150m": (1024, 12),
    "400m": (1536, 14),
    "1b": (2048, 20),
    "3b": (3072, 26),
    "8b": (4096, 40),
}
FAMILIES = ("causal_lm", "prefix_lm", "enc_dec-1/3", "enc_dec-1/2", "enc_dec-2/3")
LENGTHS = (1024, 1024)
TOKENS = 20  # of training, for each non-embedding parameter of the causal LM


def rung(name: str) -> dict[str, RunConfig]:
    """The runs of a rung, by family."""
    require(name in RUNGS, "rung", name, "one of " + ", ".join(RUNGS))
    d_model, layers = RUNGS[name]
    base = _base(d_model, layers)
    budget = count(base).train_flops.mask * base.train.tokens / geometry(base).update_tokens
    cells = grid(
        budget,
        ("causal_lm", "prefix_lm", "enc_dec"),
        equal=("params_nonembed", "train_flops"),
        splits=(Fraction(1, 3), Fraction(1, 2), Fraction(2, 3)),
        lengths=LENGTHS,
        widths=(d_model,),
        aspect=d_model / layers,
        base=base,
    )
    return {cell.family.label.replace(" ", "-"): cell.run for cell in cells}


def get_config(name: str = "1m-causal_lm") -> ConfigDict:
    size, _, family = name.partition("-")
    runs = rung(size)
    require(family in runs, "family", family, "one of " + ", ".join(runs))
    config = ConfigDict(to_dict(runs[family]))
    if config.model.encoder is None:
        config.model.encoder = config_dict.placeholder(dict)
    return config


def _base(d_model: int, layers: int) -> RunConfig:
    """The causal LM of a rung."""
    large = d_model >= 1024
    model = preset(
        "causal_lm",
        d_model=d_model,
        dec_layers=layers,
        vocab_size=32_768 if large else 384,  # 259 bytes and marks, in whole vectors of 128
        head_dim=128 if large else 64,
        dtype="bfloat16",
        remat="full",
    )
    data = DataConfig(task="bible_en", vocab="spm32768" if large else "bytes", length=sum(LENGTHS))
    train = TrainConfig(tokens=TOKENS * parameters(model).non_embedding, batch_size=1)
    return recipe(RunConfig(model, data, train=train), "mup", base_width=192)

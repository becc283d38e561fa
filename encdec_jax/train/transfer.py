"""How a learning rate that was found at one width serves others: muP's factors, and the recipe of a size. No jax here.

muP for this parametrization (Yang et al., arXiv 2203.03466, Table 8, by the abc-symmetry of its appendix J.2.1: an
initial scale, a multiplier and a learning rate may be traded against each other). Write m = width / base_width. Heads
keep their head_dim as the width grows, so attention's 1/sqrt(head_dim) is a constant.

| parameter | stored as | applied as | Adam's factor | Adafactor's factor |
|---|---|---|---|---|
| matrices of blocks | normal(fan_in^-0.5) | itself | 1/m | m^-0.5 |
| tables, as embeddings | normal(d^-0.5) | times sqrt(d) | m^-0.5 | 1 |
| tables, as output head | normal(d^-0.5) | times m^-0.5 | m^-0.5 | 1 |
| scales of norms | ones | itself | 1 | 1 |

Adam changes each stored element by about the learning rate. So a matrix of a block, which sums over its fan-in, changes
its output by a constant amount at 1/m. A table used as embedding is sqrt(d) times what is stored: m^-0.5 makes that
change constant. As output head it is m^-0.5 times what is stored: its initial logits then shrink with m^-0.5, and its
change is 1/m, as Table 8 wants of output weights. Both uses need the same factor, so one table can serve as both. At
m = 1 every factor is 1, and this is the standard parametrization.

Adafactor's step is relative to the RMS of the parameter (arXiv 1804.04235, section 8), which already shrinks with
m^-0.5 for matrices and tables: what is left is Adam's factor over that (Everett et al., arXiv 2407.05872, find the same
1/2 for hidden matrices).

Weight decay is the learning rate times `weight_decay`, without the factor: the time in which weights decay is the same
at every width, as in the authors' package (MuAdamW keeps lr x weight decay), where a factor of 1/m would switch decay
off in wide models.

Depth is transferred where `model.base_depth` is set, by CompleteP (Dey et al., arXiv 2505.01618): each residual branch
of a stack of n layers is multiplied by base_depth / n. Its rules of learning rates and weight decay have a factor of
(n / base_depth)^(alpha - 1), and its alpha is 1: what the width asks for is all. (Adam's eps should shrink too; it
is far below these gradients, and stays.) Encoder and decoder go by their own depths. Without it residual branches are
summed as they are: then compare depths with a learning rate tuned at each.
"""

from __future__ import annotations

from dataclasses import replace
from math import log2
from typing import Literal

from encdec_jax.compute.ledger import count
from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.errors import require
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.declare import model
from encdec_jax.model.param import Param, Role, leaves

# The power of base_width / width that Adam's learning rate gets, by what a parameter is. A router's outputs, one an
# expert, do not grow in number with the width: it sums over its fan-in as a matrix does.
POWERS: dict[Role, float] = {"matrix": 1.0, "table": 0.5, "vector": 0.0, "bias": 0.0, "router": 1.0}
Kind = Literal["mup", "inverse_width"]
Batch = Literal["keep", "flops"]


def factors(config: ModelConfig, optimizer: str) -> dict[tuple[str, ...], float]:
    """What multiplies the learning rate of each parameter, by its path; empty where all are 1.

    Encoder and decoder may differ in width: each matrix goes by the width that its own fan-in grows with.

    Args:
      config: the model; `base_width` 0 is the standard parametrization.
      optimizer: 'adamw' or 'adafactor'.
    """
    if not config.base_width:
        return {}
    found = {path: _factor(param, config.base_width, optimizer) for path, param in leaves(model(config))}
    return found if any(factor != 1 for factor in found.values()) else {}


def recipe(
    run: RunConfig, kind: Kind, *, rate: float = 0.35, base_width: int = 64, batch: Batch = "flops"
) -> RunConfig:
    """The run with the learning rate and the batch of its size.

    'inverse_width': one learning rate for all parameters, rate / d_model (of the decoder). The default is what
    experiments/recipes found for causal LM, prefix LM and encoder-decoder alike, at d_model 16 to 40 and two layers.
    'mup': muP with this base width and the learning rate rate / base_width. At base_width both are the same.
    Neither transfers over depth without `model.base_depth`, nor over the batch: a batch that grows with the budget is
    tuned with it.

    Args:
      run: a configuration with its tokens to train.
      kind: which rule.
      rate: learning rate times width.
      base_width: of 'mup': the width at which the learning rate was tuned.
      batch: 'flops': `batch_windows` of the run's training FLOPs; 'keep': as it is.

    Raises:
      UserError: an argument is not accepted.
    """
    require(kind in ("mup", "inverse_width"), "kind", kind, "mup or inverse_width")
    require(batch in ("keep", "flops"), "batch", batch, "keep or flops")
    require(rate > 0, "rate", rate, "above 0")
    require(base_width >= 1, "base_width", base_width, "at least 1")
    base = base_width if kind == "mup" else 0
    width = base or run.model.decoder.d_model
    windows = run.train.batch_size if batch == "keep" else batch_windows(run)
    return replace(
        run,
        model=replace(run.model, base_width=base),
        optim=replace(run.optim, lr=rate / width),
        train=replace(run.train, batch_size=windows),
    )


def batch_windows(run: RunConfig) -> int:
    """Windows of an update, by the run's training FLOPs C: 0.2920 C^0.3271 tokens.

    The law of DeepSeek LLM (arXiv 2401.02954, section 3.1), fitted to near-optimal batches of decoders. It is a
    function of the budget alone, so that architectures which are matched by training FLOPs get the same batch; C is the
    ledger's, in 'mask' FLOPs (theirs leaves out embeddings and logits). Rounded to a power of two times the fewest
    windows that give every device whole rows of every microbatch.
    """
    shape = geometry(run)
    unit, tokens = shape.unit, shape.window_tokens
    one = count(replace(run, train=replace(run.train, batch_size=unit))).train_flops.mask / (unit * tokens)
    wanted = 0.2920 * (one * run.train.tokens) ** 0.3271 / tokens
    return unit * 2 ** max(0, round(log2(wanted / unit)))


def _factor(param: Param, base: int, optimizer: str) -> float:
    power = POWERS[param.role]
    if optimizer == "adafactor" and power:
        power -= 0.5
    return (base / param.width) ** power

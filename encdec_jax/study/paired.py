"""Labels beside each other window by window: the same text in the same order, scored on the same documents.

Losses of two runs on the same held-out windows go up and down together, for some windows are hard for both. So their
difference is surer than either loss: what the choice of windows leaves open of it is told by resampling windows, both
runs' at once. What chance in training leaves open, only seeds tell; no window knows of it.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import stdtrit

from encdec_jax.errors import UserError, require
from encdec_jax.evaluate import LOSS
from encdec_jax.files import read_json
from encdec_jax.laws.interval import LEVEL, Interval
from encdec_jax.study.curves import standing
from encdec_jax.sweep.experiment import Settings
from encdec_jax.train.summary import read_summary

_RESAMPLES = 4000
_SEED = 20_220_329


@dataclass(frozen=True)
class Pair:
    """The best size of a label beside the baseline's best at one budget, over the seeds that both ran.

    Attributes:
      label, baseline: the two.
      budget: training FLOPs.
      runs: ids of each seed's two runs, the label's first.
      windows: difference of their losses, bits per byte (above 0: the baseline is better), mean over seeds; its
        interval is that of other held-out windows for these very runs.
      apart: the interval that the difference would have, were each scored on windows of its own.
      seeds: the same difference with the interval of other seeds, on these windows, by Student's t; without ends for
        one seed.
      correlation: of the two labels' bits over windows, mean over seeds.
      better: share of windows that the label predicts better, mean over seeds.
      same_tokens: whether each pair saw the same tokens to the end. Runs of one seed read the same windows in the same
        order, but at equal compute one reads further.
    """

    label: str
    baseline: str
    budget: float
    runs: tuple[tuple[str, str], ...]
    windows: Interval
    apart: Interval
    seeds: Interval
    correlation: float
    better: float
    same_tokens: bool


def pairs(
    table: pl.DataFrame, root: Path, baseline: str, settings: Settings = "best"
) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """All labels beside the baseline, at every budget where a seed of both best sizes is done.

    Runs of a seed that were scored on unlike text or windows are left out, and so are seeds whose text is not that of
    most others of the pair. So are budgets at which the mean of several settings is the best size's loss: it has no
    runs of its own that could be paired.

    Args:
      table: with the columns of `encdec_jax.sweep.results.SCHEMA`.
      root: the folder of the runs, `root / run_id / suffix_bits.npy`.
      baseline: the label that the others are compared with.
      settings: what stands for a size that was trained with several, as in `encdec_jax.study.curves.curves`.

    Returns:
      the pairs, and what is left out, in sentences.

    Raises:
      UserError: a run's scores are missing or damaged.
    """
    best = _best(table, settings)
    random = np.random.default_rng(_SEED)
    drawn: dict[int, np.ndarray] = {}  # by windows: all pairs of a study see the same resamples
    found, left_out = [], []
    for (label, budget), mine in best.items():
        theirs = best.get((baseline, budget))
        if label == baseline or theirs is None:
            continue
        several = [runs["label"][0] for runs in (mine, theirs) if runs["setting"].n_unique() > 1]
        if several:
            left_out.append(
                f"At {budget:.3g} FLOPs {label} and {baseline} are not compared window by window: the best size of "
                f"{' and '.join(several)} is the mean of several settings."
            )
            continue
        both = mine.join(theirs, on="seed", suffix="_base").sort("seed")
        alike = _alike(both, root)
        if len(alike) < len(both):
            apart = both.filter(~pl.col("run_id").is_in(alike["run_id"].to_list()))
            ids = ", ".join(f"{mine} and {other}" for mine, other in apart.select("run_id", "run_id_base").iter_rows())
            left_out.append(
                f"At {budget:.3g} FLOPs {label} and {baseline} are compared window by window over {len(alike)} of"
                f" {len(both)} seeds: {ids} were scored on other text or windows."
            )
        if len(alike):
            found.append(_pair(label, baseline, budget, alike, root, random, drawn))
    return tuple(found), tuple(left_out)


def _alike(both: pl.DataFrame, root: Path) -> pl.DataFrame:
    """The seeds whose two runs were scored on the same text; of several texts, that of most seeds."""
    seen = [tuple(_documents(root / run[name]) for name in ("run_id", "run_id_base")) for run in both.to_dicts()]
    texts = [repr(mine) if mine == other else None for mine, other in seen]
    counted = Counter(text for text in texts if text is not None).most_common(1)
    return both.filter(pl.Series([text is not None and text == counted[0][0] for text in texts], dtype=pl.Boolean))


def _best(table: pl.DataFrame, settings: Settings) -> dict[tuple[str, float], pl.DataFrame]:
    """The runs that stand for the size with the least loss, by label and budget."""
    done = table.filter(pl.col("status") == "done", pl.col("budget_flops").is_not_null(), pl.col(LOSS).is_finite())
    ranked = standing(done, settings)
    best = pl.col("size").sort_by("size_loss", "size").first().over("label", "budget_flops")
    kept = ranked.filter((pl.col("size") == best) & pl.col("stands"))
    groups = kept.sort("label", "budget_flops").partition_by("label", "budget_flops", maintain_order=True)
    return {(runs["label"][0], runs["budget_flops"][0]): runs for runs in groups}


def _pair(
    label: str,
    baseline: str,
    budget: float,
    both: pl.DataFrame,
    root: Path,
    random: np.random.Generator,
    drawn: dict[int, np.ndarray],
) -> Pair:
    scores = [_scores(run, root) for run in both.iter_rows(named=True)]
    nbytes = scores[0][2]
    own, base = (np.stack([score[i] for score in scores]) for i in (0, 1))  # bits [seeds, windows]
    n = own.shape[1]
    if n not in drawn:
        drawn[n] = random.multinomial(n, np.full(n, 1 / n), _RESAMPLES).astype(np.float64)
    # Windows are close to equally long in bytes: of a difference, their lengths matter little (in bytes, not at all).
    bits = own - base
    value = float(bits.sum() / nbytes / len(bits))
    spread = [float(np.var(of.mean(0), ddof=1)) for of in (own, base)]
    half = float(-stdtrit(n - 1, (1 - LEVEL) / 2)) * math.sqrt(n * sum(spread)) / nbytes
    return Pair(
        label,
        baseline,
        budget,
        tuple(both.select("run_id", "run_id_base").iter_rows()),
        Interval.of(value, drawn[n] @ bits.mean(0) / nbytes),
        Interval(value, value - half, value + half),
        _between(value, bits.sum(1) / nbytes),
        float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(own, base, strict=True)])),
        float((bits < 0).mean()),
        bool((both["data_hash"] == both["data_hash_base"]).all()),
    )


def _between(value: float, differences: np.ndarray) -> Interval:
    """The interval of other seeds, by Student's t over the seeds' differences."""
    n = len(differences)
    if n < 2:
        return Interval(value)
    half = float(-stdtrit(n - 1, (1 - LEVEL) / 2) * differences.std(ddof=1)) / math.sqrt(n)
    return Interval(value, value - half, value + half)


def _scores(run: dict[str, object], root: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Bits of both runs' windows, [windows] each, and the bytes of text in all windows.

    Raises:
      UserError: scores are missing or damaged: they are not of the windows that both runs' configurations state.
    """
    ids = (str(run["run_id"]), str(run["run_id_base"]))
    bits = [_bits(root / identity) for identity in ids]
    nbytes = [float(b.sum() / float(str(run[name]))) for b, name in zip(bits, (LOSS, f"{LOSS}_base"), strict=True)]
    same = len(bits[0]) == len(bits[1]) and math.isclose(*nbytes, rel_tol=1e-6)
    require(same, "held-out scores of", " and ".join(ids), "those of the same windows, as both config.json say")
    return bits[0], bits[1], nbytes[0]


def _bits(folder: Path) -> np.ndarray:
    path = folder / "suffix_bits.npy"
    try:
        bits = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"can't read held-out scores {path}: {error}; paired analysis needs the runs' folder"
        ) from error
    require(bits.ndim == 1 and len(bits) >= 2, "held-out scores", str(path), "bits of two windows or more")
    return bits.astype(np.float64)


def _documents(folder: Path) -> tuple[object, ...]:
    """What decides which text a run was scored on."""
    config, summary = read_json(folder / "config.json"), read_summary(folder / "summary.json")
    scored = {name: config["evaluate"][name] for name in ("prefix", "suffix", "windows")}
    return (
        config["data"]["task"],
        config["data"]["vocab"],
        config["data"]["eval_split"],
        scored,
        summary["cache_digest"],
    )

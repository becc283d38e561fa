"""All studies on one picture: what an encoder-decoder loses or gains beside a decoder of equal compute, and how surely.

`python experiments/map.py` writes experiments/map.png from the tables that are in. Studies of pairs match their runs by
tokens, which `encdec prepare` makes first: where they lack, one line says how.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from encdec_jax.errors import Undecided, UserError
from encdec_jax.report.style import RC, looks
from encdec_jax.study.findings import Findings, study
from encdec_jax.sweep import results
from encdec_jax.sweep.experiment import load

HERE = Path(__file__).parent
DODGE = 1.07  # between two studies at one budget, along the axis of compute


class Compared(NamedTuple):
    """One study's comparison, as the picture shows it."""

    folder: str
    label: str  # of the encoder-decoder
    other: str  # of the decoder
    words: str


COMPARED = (
    Compared("quickstart", "enc_dec", "causal_lm", "quickstart: text, 2 layers"),
    Compared("redllm/pretrained", "enc_dec", "causal_lm", "redllm: text, RedLLM's recipe"),
    Compared("split/lm_1to1", "enc_dec 1/2", "causal_lm", "split: text, equal parameters too"),
    Compared("split/en_es", "enc_dec 1/2", "causal_lm", "split: translation, equal parameters too"),
    Compared("shape", "enc_dec 04", "causal_lm 04", "shape: text, 4 layers"),
    Compared("mt", "enc_dec", "causal_lm", "mt: translation, 4 layers"),
)


def draw() -> Figure:
    """The picture: gaps in bits per byte against training FLOPs, a colour a study."""
    with rc_context(RC):
        figure = Figure(figsize=(10, 5), layout="constrained")
        axes = figure.subplots()
        shown = [one for one in COMPARED if (HERE / one.folder / "results.parquet").is_file()]
        for place, (one, look) in enumerate(zip(shown, looks(map(str, range(len(shown)))).values(), strict=True)):
            experiment, table = load(HERE / one.folder), results.load(HERE / one.folder)
            known = len(set(table["run_id"]) & set(experiment.runs))
            _study(axes, study(experiment, table), one, DODGE ** (place - len(shown) / 2), look.colour, look.marker)
            name = f"{one.words} ({known} of {len(experiment.runs)} runs)"
            axes.plot([], [], look.marker, color=look.colour, label=name)
        axes.plot(
            [],
            [],
            "o",
            color="0.4",
            mfc="white",
            label="hollow: no claim, a best size may lie outside\nthose tried, or the noise of a run is not known",
        )
        axes.axhline(0, color="0.3", lw=1)
        axes.set_xscale("log")
        axes.set_xlabel("training FLOPs")
        axes.set_ylabel("best loss of the encoder-decoder minus the decoder's\n(bits per byte; bars: 95 % intervals)")
        axes.text(1.0, 0.99, "decoder ahead", transform=axes.transAxes, ha="right", va="top", color="0.35")
        axes.text(1.0, 0.01, "encoder-decoder ahead", transform=axes.transAxes, ha="right", va="bottom", color="0.35")
        axes.set_title("Does an encoder-decoder beat a causal decoder at equal training compute?")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    return figure


def _study(axes: Axes, found: Findings, one: Compared, dodge: float, colour: str, marker: str) -> None:
    claimed = found.claimed
    for budget in found.budgets:
        sure = not any((label, budget) in claimed.withheld for label in (one.label, one.other))
        try:  # a claim's interval allows for best sizes outside, where they are in doubt
            gap = (claimed if sure else found).gap(one.label, one.other, budget)
        except Undecided:
            continue
        if gap.known:
            axes.vlines(budget * dodge, gap.low, gap.high, color=colour, lw=1.2)
        axes.plot(budget * dodge, gap.value, marker, color=colour, mfc=colour if sure else "white", ms=6)


if __name__ == "__main__":
    try:
        picture = draw()
    except UserError as error:
        print(f"{Path(__file__).name}: {error}", file=sys.stderr)
        sys.exit(2)
    picture.savefig(HERE / "map.png", dpi=130, metadata={"Software": None})
    print(f"picture: {HERE / 'map.png'}")

"""What was found, as sections: comparisons, best sizes, laws, crossovers, residuals."""

from __future__ import annotations

import numpy as np
import polars as pl

from encdec_jax.laws.ahead import REACH
from encdec_jax.report.section import Picture, Section
from encdec_jax.report.words import NAMED, crossing, flops, interval, multiplier, number, parameters, share, some
from encdec_jax.study.comparison import Crossover
from encdec_jax.study.findings import Findings
from encdec_jax.study.headline import Headline
from encdec_jax.study.optima import Optimum
from encdec_jax.study.pooling import mixtures
from encdec_jax.study.scaling import Scaling
from encdec_jax.sweep.experiment import Experiment

Pictures = tuple[Picture, ...]


def comparisons(findings: Findings, head: Headline, pictures: Pictures) -> Section:
    """Every label beside the baseline, at every budget; no probability where the headline claims nothing."""
    note = (
        f"Compute needed: times the compute of {findings.baseline} for the same loss, along {findings.baseline}'s law, "
        f"trusted to {REACH:g}x beyond the measured budgets. Parameters needed: the same of parameters, both at their "
        f"best sizes. Better: probability that the best loss is lower than {findings.baseline}'s."
    )
    forbidden = [head.forbids(c.label, c.budget, c.budget) for c in findings.comparisons]
    rows = [
        [c.label, flops(c.budget), interval(c.gap, sign=True), multiplier(c), parameters(c), reason or share(c.better)]
        for c, reason in zip(findings.comparisons, forbidden, strict=True)
    ]
    if any(forbidden):
        note += (
            " A reason in its place: nothing is claimed there, and the row's brackets are no ground for it, for they "
            "are of a noise that nobody estimated, or of a size that only bounds the best one."
        )
    columns = (
        "label",
        "budget (FLOPs)",
        f"bits per byte above {findings.baseline}",
        "compute needed",
        "parameters needed",
        "better",
    )
    empty = "No budget has runs of two labels."
    return Section("At each budget", note if rows else "", columns, rows, empty, pictures)


def laws(findings: Findings, pictures: Pictures) -> Section:
    """The fitted laws."""
    reference = findings.laws[0].fit.law.reference if findings.laws else 0.0
    note = (
        f"y = E + A (C / {flops(reference)})^exponent of training FLOPs C, through each budget's best size. Three "
        "budgets can't tell E from the exponent: a power law (E = 0) is fitted to fewer than four, a saturating one to "
        "the losses of four or more, and where its E may be 0 the other brackets hold those of a power law too. Only a "
        "budget whose best size lies inside its sizes counts for parameters and "
        "tokens. Brackets: 95 % intervals of the resampled study; they cover the noise of runs, lack of fit of the "
        "parabolas and the choice of held-out windows, but no other text, learning rates, shapes or forms of the law."
    )
    units = {"loss": "bits per byte", "n": "parameters", "d": "tokens"}
    rows = [
        [
            law.label,
            units[law.quantity],
            law.fit.law.kind,
            interval(law.slope),
            interval(law.scale),
            interval(law.floor) if law.fit.law.kind == "saturating" else "0 (fixed)",
            str(law.fit.n_points),
            f"{law.fit.objective:.1e}",
            _fits(law),
        ]
        for law in findings.laws
    ]
    columns = ("label", "y", "law", "exponent", "A", "E", "budgets", "squared residuals (log)", "fits")
    empty = "A law needs runs done at two budgets of one label."
    return Section("Fitted laws", note if rows else "", columns, rows, empty, pictures)


def _fits(law: Scaling) -> str:
    """Whether a law converged, and leaves no more than noise."""
    if not law.fit.converged:
        return "not converged: do not use"
    if law.misfit > 1:
        return f"no: {number(law.misfit)} times as far off as noise; intervals widened"
    budgets = np.array([law.fit.law.reference])
    return "yes" if law.fit.n_points > law.fit.law.tangent(budgets).shape[1] else "not checked: no residual is left"


def crossovers(findings: Findings, head: Headline, pictures: Pictures) -> Section:
    """Where the fitted frontiers cross the baseline's, and whether the headline's claims bear it out."""
    base = findings.baseline
    note = (
        f"Each label's law of loss over {base}'s. A crossover counts in the range of budgets that both were "
        "measured in; its interval holds the budgets at which the two can't be told apart. Share: of resampled studies "
        f"whose frontiers cross in that range. Dashed: up to {REACH:g}x the largest budget, where nothing was measured."
        " Not licensed: no claim is, for the reason given. Fits alone: the headline's claims don't bear it out."
    )
    forbidden = [head.forbids(found.label, found.low, found.high) for found in findings.crossovers]
    rows = [
        [
            found.label,
            f"{flops(found.low)} to {flops(found.high)}",
            f"not licensed: {reason}" if reason else _crossover(found, head),
            "-" if reason else f"{found.share:.0%}",
        ]
        for found, reason in zip(findings.crossovers, forbidden, strict=True)
    ]
    columns = ("label", "measured (FLOPs)", "crossover", "share")
    empty = "A crossover needs laws of two labels over two budgets that both were given."
    return Section("Crossovers", note if rows else "", columns, rows, empty, pictures)


def _crossover(found: Crossover, head: Headline) -> str:
    """Where it is; if the headline's claims don't bear the fits out, that it is of the fits alone."""
    crosses = head.crosses(found.label)
    if found.compute is not None:
        return crossing(found, head.baseline) + " (fits alone)" * (crosses is not True)
    if found.possible is not None:
        return crossing(found, head.baseline)
    if crosses is not False:
        return "none (fits alone)"
    return f"none; {found.label if head.claimed(found.label)[0].better else head.baseline} is better throughout"


def optima(findings: Findings, pictures: Pictures) -> Section:
    """The best size for each budget."""
    sources = "; ".join(f"{label} {number(n.sd)} ({n.source})" for label, n in findings.noise.items())
    note = (
        "Best size: the minimum of a parabola in ln(parameters) through the sizes of one budget. A star marks it; a "
        "hollow one, with a dashed curve, lies not inside the sizes tried, and the best size trained stands for it. An "
        "end of 0 or inf: the sizes tried don't bound the best one there. Curves with enough sizes are fitted with one "
        "tilt a label, for they are steeper on one side. "
        f"Noise of one run, bits per byte: {sources}."
    )
    rows = [
        [
            o.label,
            flops(o.budget),
            interval(o.n),
            interval(o.d),
            interval(o.loss),
            number(o.d.value / o.n.value),
            _place(o, findings),
        ]
        for o in findings.optima
    ]
    columns = (
        "label",
        "budget (FLOPs)",
        "parameters",
        "tokens",
        "bits per byte",
        "tokens / parameter",
        "best size",
    )
    return Section(
        "Best sizes", note if rows else "", columns, rows, "No run is done: there is nothing to draw yet.", pictures
    )


def _place(optimum: Optimum, findings: Findings) -> str:
    """Whether an optimum lies inside its sizes, and what else its fit can't show."""
    if not optimum.isoflop.converged:
        return optimum.isoflop.shape
    said = "inside" if optimum.inside else "in doubt"
    said += f"; {optimum.edge_share:.0%} of resamples at the edge" if optimum.edge_share else ""
    said += "; 3 sizes leave no residual" * (not optimum.isoflop.checked)
    return said + f"; below all its runs by more than {findings.noise[optimum.label].name}" * optimum.below_all


def learning(experiment: Experiment, n_runs: int, pictures: Pictures) -> Section:
    """How the training losses fell; a section without pictures where the runs' folders are gone."""
    note = (
        "Means of the training loss between points spaced evenly in ln(updates). It is each run's own objective, in "
        "nats a token: compare runs of one label, not labels. Beside curves: the budget, at its lowest run. "
        "Held-out losses are there of runs that were scored on the way (evaluate.every): they compare labels, but "
        "before the learning rate has decayed."
    )
    gone = (
        f"The runs' folders (runs/{experiment.name}/RUN/metrics.jsonl) are not here, so there are no learning curves: "
        "a results table holds only what each run came to."
    )
    if pictures:
        return Section("Learning curves", f"Of {n_runs} runs. {note}", empty="", pictures=pictures)
    return Section("Learning curves", "", empty=gone)


def chosen(findings: Findings, drawn: Findings) -> list[str]:
    """Which labels of the study are shown, in a sentence, if not all."""
    if drawn.labels == findings.labels:
        return []
    return [f"Shown are {', '.join(drawn.labels)}, of {len(findings.labels)} labels; the answer is of all."]


def pooled(experiment: Experiment, table: pl.DataFrame) -> list[str]:
    """Where the table's runs differ in what made them, and why they are pooled, in sentences."""
    runs = table.filter(pl.col("status") == "done", pl.col("budget_flops").is_not_null())
    return [
        f"The runs differ in {text}. They are pooled all the same: {experiment.pooled.get(name, 'no reason is stated')}"
        for name, text in mixtures(runs).items()
    ]


def settings(experiment: Experiment) -> list[str]:
    """What stands for sizes that were trained with several settings, in a sentence, if it is their mean."""
    if experiment.settings == "best":
        return []
    return ["Of sizes trained with several settings the mean stands everywhere, as sweep.py says (SETTINGS)."]


def missing(experiment: Experiment, table: pl.DataFrame, findings: Findings) -> list[str]:
    """What the runs done do not yet allow, in sentences."""
    done = set(table.filter(pl.col("status") == "done")["run_id"]) & set(experiment.runs)
    found = []
    if len(done) < len(experiment.runs):
        found.append(f"{len(done)} of {len(experiment.runs)} runs are done.")
    for column, what in (("dropped", "trained on"), ("dropped_eval", "scored on")):
        share = table.select(pl.col(column).max().cast(pl.Float64)).item()
        if share:
            found.append(f"Up to {share:.2%} of the pairs to be {what} are too long for a row, and dropped.")
    fitted = {(law.label, law.quantity) for law in findings.laws}
    labels = sorted(set(experiment.labels.values()))
    without = [label for label in labels if (label, "loss") not in fitted]
    if len(without) > NAMED:
        found.append(f"No law of the losses of {some(without)}: each needs runs done at two budgets or more.")
    for label in labels:
        if label in without:
            if len(without) <= NAMED:
                found.append(f"No law of {label}'s loss: it needs runs done at two budgets or more.")
        elif (label, "n") not in fitted:
            found.append(f"No law of {label}'s best size: fewer than two budgets have it inside the sizes tried.")
        if any(law.label == label and law.quantity == "loss" and law.fit.n_points == 2 for law in findings.laws):
            found.append(
                f"The law of {label}'s loss goes through its two points, and can't be checked against a third."
            )
    return found

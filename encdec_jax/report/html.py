"""`encdec report`: one self-contained HTML file, the answer first, and a picture for the README."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import jinja2
import polars as pl
from markupsafe import Markup

from encdec_jax.files import place
from encdec_jax.report import (
    answer,
    choices,
    costs,
    pictures,
    provenance,
    robustness,
    sections,
    verdicts,
)
from encdec_jax.report.chosen import only, parted
from encdec_jax.report.learning import History, histories
from encdec_jax.report.section import Section
from encdec_jax.report.style import Look, looks
from encdec_jax.study import paired, pareto
from encdec_jax.study.approaches import Sides, sides
from encdec_jax.study.documents import by_document
from encdec_jax.study.findings import Findings, study
from encdec_jax.study.headline import Headline, headline
from encdec_jax.study.paired import Pair
from encdec_jax.study.predictions import Scored, registered, score
from encdec_jax.sweep import results
from encdec_jax.sweep.experiment import Experiment, load
from encdec_jax.sweep.replica import pull_whole
from encdec_jax.train.objects import put

REPORT = "report.html"
SCORES = "suffix_bits.npy"
_HERE = Path(__file__).parent


def write_report(folder: Path, labels: str = "") -> Path:
    """Collect an experiment's results, fit them, and write report.html and figure.png beside results.parquet.

    Where no run has ended, as in a clone, the results.parquet in the experiment's folder stands for them; learning
    curves are then left out. With too few runs for a fit, the report says what is missing; without a run done, there is
    no figure. The same results give the same bytes.

    Args:
      folder: of the experiment.
      labels: that pictures and tables show, beside the baseline, with commas between; all if none is named. The answer
        is of all.

    Returns:
      the path of report.html.

    Raises:
      UserError: the folder holds no sound experiment, a run's files are damaged, a prediction's check is at fault, or
        the results' folder can't be written to.
    """
    experiment = load(folder)
    table = results.collect(experiment)
    if table.is_empty() and (folder / results.TABLE).is_file():
        table = results.load(folder)
    pull_whole(experiment.root, table.filter(pl.col("status").is_in(("done", "diverged")))["run_id"])
    findings = study(experiment, table)
    chosen = parted(labels, findings.labels)
    scored = score(registered(experiment.root), table)
    curves = histories(experiment, table)
    seen = sides(table, findings, {curve.run_id: (curve.flops, curve.loss) for curve in curves})
    pairs, unpaired = _pairs(experiment, _sound(table, findings))
    page = render(experiment, table, findings, curves, scored, pairs, seen, chosen, unpaired)
    figure = pictures.png(only(findings, chosen), experiment.question) if findings.optima else None
    results.put_figure(experiment, figure, table)
    path = experiment.root / REPORT
    put(path, page)
    return path


def render(
    experiment: Experiment,
    table: pl.DataFrame,
    findings: Findings,
    curves: Sequence[History] = (),
    scored: Sequence[Scored] = (),
    pairs: Sequence[Pair] = (),
    seen: Sequence[Sides] = (),
    labels: Sequence[str] = (),
    unpaired: Sequence[str] = (),
) -> str:
    """The report as HTML.

    Args:
      experiment: question, confounders, predictions and planned runs.
      table: rows of the runs that ended, with the columns of `encdec_jax.sweep.results.SCHEMA`.
      findings: of the table.
      curves: learning curves of the table's runs, as far as they are known.
      scored: losses that were predicted before the runs.
      pairs: of runs scored on the same windows.
      labels: that pictures and tables show, beside the baseline; all if none is named.
      seen: what each approach says of each label's best sizes.
      unpaired: which runs could not be compared window by window, in sentences.

    Raises:
      UserError: a prediction's check is at fault.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn = only(findings, labels)
    shown = table.filter(pl.col("label").is_in(drawn.labels)) if labels else table
    rows = provenance.download(table)
    head = headline(findings, pairs)
    return environment.get_template("report.html.j2").render(
        css=Markup((_HERE / "report.css").read_text(encoding="utf-8")),
        script=Markup((_HERE / "report.js").read_text(encoding="utf-8")),
        name=experiment.name,
        place=place(experiment.folder),
        question=experiment.question,
        answer=answer.answer(findings, head),
        frontiers=answer.frontiers(findings, head),
        missing=[
            *sections.chosen(findings, drawn),
            *answer.qualified(findings, head),
            *sections.settings(experiment),
            *sections.pooled(experiment, _sound(table, findings)),
            *sections.missing(experiment, table, findings),
            *unpaired,
        ],
        legend=_legend(drawn),
        sections=_sections(
            experiment,
            shown,
            findings,
            drawn,
            head,
            [curve for curve in curves if not labels or curve.label in drawn.labels],
            [one for one in scored if not labels or one.forecast.label in drawn.labels],
            [pair for pair in pairs if not labels or pair.label in drawn.labels],
            [side for side in seen if not labels or side.label in drawn.labels],
        ),
        n_rows=len(table),
        csv=base64.b64encode(rows).decode(),
        digest=hashlib.sha256(rows).hexdigest(),
    )


def _legend(findings: Findings) -> list[tuple[str, Look]]:
    """Labels with their looks, in the order of their curves' right ends, the highest loss first."""
    look = looks(findings.every)
    ends = {optimum.label: optimum.loss.value for optimum in sorted(findings.optima, key=lambda one: one.budget)}
    return [(label, look[label]) for label in sorted(findings.labels, key=lambda label: -ends[label])]


def _sound(table: pl.DataFrame, findings: Findings) -> pl.DataFrame:
    """The table without outliers and runs that a health rule leaves out: they decide nothing."""
    unsound = {one.run_id for one in findings.exclusions if one.health} | {one.run_id for one in findings.outliers}
    return table.filter(~pl.col("run_id").is_in(unsound))


def _pairs(experiment: Experiment, table: pl.DataFrame) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """As `paired.pairs`; none where a run's scores of single windows are gone."""
    done = table.filter(pl.col("status") == "done")["run_id"]
    here = all((experiment.run_folder(identity) / SCORES).is_file() for identity in done)
    return paired.pairs(table, experiment.root, experiment.baseline, experiment.settings) if here else ((), ())


def _sections(
    experiment: Experiment,
    table: pl.DataFrame,
    whole: Findings,
    findings: Findings,
    head: Headline,
    curves: Sequence[History],
    scored: Sequence[Scored],
    pairs: Sequence[Pair],
    seen: Sequence[Sides],
) -> list[Section]:
    said = pictures.point_tips(findings)
    documents = by_document(pairs, experiment.root)
    spent = costs.spent(experiment, table, findings)
    models = {identity: run.model for identity, run in experiment.runs.items()}
    fronts = pareto.fronts(table, models, findings, settings=experiment.settings)
    return [
        sections.comparisons(findings, head, pictures.answers(findings, said)),
        sections.optima(findings, pictures.isoflops(findings, said)),
        sections.laws(findings, pictures.laws(findings, said)),
        sections.crossovers(findings, head, pictures.crossovers(findings, said)),
        robustness.side_by_side(seen),
        robustness.parabolas(seen),
        robustness.held_out(seen),
        choices.allocations(findings),
        choices.shapes(_sound(table, findings), experiment.pooled, experiment.settings),
        choices.paired(pairs),
        *([choices.by_document(documents)] if documents else []),
        costs.serving(fronts, pictures.fronts(findings, fronts)),
        verdicts.predictions(experiment, whole),
        verdicts.forecasts(scored),
        sections.learning(experiment, len(curves), pictures.learnings(findings, curves)),
        costs.ledger(spent, pictures.ledger(spent)),
        provenance.conventions(),
        provenance.matched(table),
        provenance.confounders(experiment),
        provenance.exclusions(experiment, table, findings),
        provenance.results(table),
        provenance.versions(table),
    ]

"""`encdec report`: one self-contained HTML file, the answer first, and a picture for the README."""

from __future__ import annotations

from pathlib import Path

import jinja2
import polars as pl
from markupsafe import Markup

from encdec_jax.files import atomic_write
from encdec_jax.report import plots, sections, words
from encdec_jax.scaling.findings import Findings, find
from encdec_jax.sweep.experiment import Experiment, load
from encdec_jax.sweep.results import FIGURE, collect

REPORT = "report.html"
_HERE = Path(__file__).parent


def write_report(folder: Path) -> Path:
    """Collect an experiment's results, fit them, and write report.html and figure.png beside results.parquet.

    With too few runs for a fit, the report says what is missing; without a run done, there is no figure. The same
    results give the same bytes.

    Returns:
      the path of report.html.

    Raises:
      UserError: the folder holds no sound experiment, a run's files are damaged, a prediction's check is at fault, or
        the results' folder can't be written to.
    """
    experiment = load(folder)
    table = collect(experiment)
    findings = find(table, experiment.baseline)
    page = render(experiment, table, findings)
    figure = plots.png(findings, experiment.question) if findings.optima else None
    if figure is not None:
        atomic_write(experiment.root / FIGURE, figure)
    path = experiment.root / REPORT
    atomic_write(path, page)
    return path


def render(experiment: Experiment, table: pl.DataFrame, findings: Findings) -> str:
    """The report as HTML.

    Args:
      experiment: question, confounders, predictions and planned runs.
      table: rows of the runs that ended, with the columns of `encdec_jax.sweep.results.SCHEMA`.
      findings: of the table.

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
    place = experiment.folder.resolve()
    return environment.get_template("report.html.j2").render(
        css=Markup((_HERE / "report.css").read_text(encoding="utf-8")),
        name=experiment.name,
        place=f"{place.parent.name}/{place.name}",
        question=experiment.question,
        answer=words.answer(findings),
        missing=sections.missing(experiment, table, findings),
        pictures=[(title, Markup(svg)) for title, svg in plots.svgs(findings)] if findings.optima else [],
        sections=[
            sections.comparisons(findings),
            sections.predictions(experiment, findings),
            sections.matched(table),
            sections.confounders(experiment),
            sections.laws(findings),
            sections.optima(findings),
            sections.exclusions(experiment, table, findings),
            sections.results(table),
            sections.versions(table),
        ],
    )

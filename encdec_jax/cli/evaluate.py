"""The verb evaluate."""

from __future__ import annotations

import argparse
from typing import Any

from encdec_jax.cli.arguments import add_verb, ranged
from encdec_jax.files import expanded
from encdec_jax.ranges import COUNT


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    text = "score a trained run on a task: predictions as JSON lines, metrics with intervals over examples"
    parser = add_verb(verbs, "evaluate", text)
    parser.add_argument("folder", type=expanded, metavar="RUN", help="the folder of the run")
    parser.add_argument("--task", required=True, help="prepared in the run's vocabulary, or a seqio Task of --module")
    parser.add_argument("--split", default="validation", help="of the task; default validation")
    text = "Python module that registers the task, whose metric_fns and postprocess_fn are used: dotted name or FILE.py"
    parser.add_argument("--module", help=text)
    parser.add_argument(
        "--examples",
        type=ranged("examples", COUNT, int),
        metavar="N",
        help="score N pairs, evenly spaced; default all",
    )
    parser.set_defaults(function=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from encdec_jax.infer.score_task import score_task
    from encdec_jax.text import console, table

    done = score_task(options.folder, options.task, options.split, options.module, options.examples)
    shown = table("score", "value", "95 % interval", left=1)
    for name, score in done.scores.items():
        value = f"{score.value:.4g}" if isinstance(score.value, int | float) else str(score.value)
        shown.add_row(name, value, "-" if score.low is None else f"{score.low:.4g} to {score.high:.4g}")
    console().print(shown)
    scored, total = done.examples
    left = f"; {done.too_long:,} left out, whose sources are longer than any in training" if done.too_long else ""
    print(f"{scored:,} of {total:,} examples of split {options.split!r} of task {options.task!r}{left}")
    print(f"predictions: {done.folder / 'predictions.jsonl'}")
    return 0

"""The verb evaluate."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from encdec_jax.cli.arguments import add_verb, ranged, ranged_list
from encdec_jax.errors import require
from encdec_jax.files import expanded
from encdec_jax.ranges import COUNT

EPILOG = """\
  encdec evaluate RUN --task my_pairs                          predictions, metrics
  encdec evaluate RUN --task bible_en --documents              losses by document; encdec compare pairs two runs' files
  encdec evaluate RUN --task bible_en --lengths 256,512,1024 --prefixes 1,64,128      longer than it was trained on
  encdec evaluate RUN --task bible_en --attention              how local attention is; which of a source it reads
"""


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    text = "score a trained run on a task: predictions as JSON lines, metrics with intervals over examples"
    parser = add_verb(verbs, "evaluate", text, EPILOG)
    text = "the folder of the run, or of several: their scores are columns of results.parquet, once their study reports"
    parser.add_argument("folders", nargs="+", type=expanded, metavar="RUN", help=text)
    parser.add_argument("--task", required=True, help="prepared in the run's vocabulary, or a seqio Task of --module")
    parser.add_argument("--split", default="validation", help="of the task; default validation")
    what = parser.add_mutually_exclusive_group()
    text = "Python module that registers the task, whose metric_fns and postprocess_fn are used: dotted name or FILE.py"
    what.add_argument("--module", help=text)
    what.add_argument("--documents", action="store_true", help="of text: bits and bytes of every document")
    what.add_argument("--attention", action="store_true", help="of text: where each layer's attention looks")
    text = "of text: losses of the same labels, evaluate.suffix tokens, at the end of texts of so many tokens"
    what.add_argument("--lengths", type=ranged_list("lengths", COUNT), metavar="TOKENS,...", help=text)
    text = "with --lengths: tokens of them that are source; default evaluate.prefix"
    parser.add_argument("--prefixes", type=ranged_list("prefixes", COUNT), metavar="TOKENS,...", help=text)
    parser.add_argument(
        "--examples",
        type=ranged("examples", COUNT, int),
        metavar="N",
        help="score N pairs, evenly spaced; default all",
    )
    parser.set_defaults(function=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    special = next((name for name in ("documents", "attention", "lengths") if getattr(options, name)), None)
    require(options.lengths is not None or options.prefixes is None, "--prefixes", "given", "only with --lengths")
    if special is not None:
        require(options.examples is None, "--examples", options.examples, f"only without --{special}")
    evaluate = {"documents": _documents, "attention": _attention, "lengths": _lengths, None: _task}[special]
    for folder in options.folders:
        if len(options.folders) > 1:
            print(f"run: {folder}")
        evaluate(folder, options)
    return 0


def _documents(folder: Path, options: argparse.Namespace) -> None:
    from encdec_jax.infer.score_text import score_documents

    done = score_documents(folder, options.task, options.split)
    print(f"{done.rate:.4f} bits per byte, standard error {done.error:.2g} over documents")
    print(
        f"{done.scored:,} of {done.total:,} documents of split {options.split!r} of task {options.task!r};"
        f" {done.left_out:.1%} of its bytes are in no scored label: a document's first evaluate.prefix + 1 tokens"
    )
    print(f"losses by document: {done.path}")


def _lengths(folder: Path, options: argparse.Namespace) -> None:
    from encdec_jax.infer.score_text import score_lengths
    from encdec_jax.text import console, table

    done = score_lengths(folder, options.task, options.split, options.lengths, options.prefixes)
    prefixes = sorted({one.prefix for one in done.found})
    shown = table("length", *(f"prefix {prefix}" for prefix in prefixes), left=0)
    for length in sorted({one.length for one in done.found}):
        cells = {one.prefix: one for one in done.found if one.length == length}
        texts = [
            f"{one.bits_per_byte:.4f} ± {one.se:.4f}" if one and one.bits_per_byte is not None else "-"
            for one in map(cells.get, prefixes)
        ]
        shown.add_row(f"{length:,}{' *' if length > done.trained else ''}", *texts)
    console().print(shown)
    print(
        f"bits per byte of the last tokens of {done.windows:,} windows of split {options.split!r} of task"
        f" {options.task!r}, ± standard error; * longer than the {done.trained:,} tokens of training"
    )
    print(f"losses by length and prefix: {done.path}")


def _attention(folder: Path, options: argparse.Namespace) -> None:
    from encdec_jax.infer.attended import score_attention
    from encdec_jax.model.parts.looked import MOST, WINDOW
    from encdec_jax.text import console, table

    done = score_attention(folder, options.task, options.split)
    shown = table("stream", "layer", "local", "first fifth", "last", "source", "bits", "of mean", f"on {MOST}", left=1)
    for one in done.found:
        local = one.local or ()
        fifth = max(len(local) // 5, 1)
        parts = [sum(part) / len(part) if part else None for part in (local, local[:fifth], local[-fifth:])]
        cells = (*parts, one.source, one.entropy, one.common, one.most)
        shown.add_row(one.stream, str(one.layer), *("-" if cell is None else f"{cell:.3f}" for cell in cells))
    console().print(shown)
    uniform = next((one.uniform for one in done.found if one.uniform is not None), None)
    print(f"local: weight on the {WINDOW} nearest keys of the stream itself; at its first and its last fifth of places")
    if uniform is not None:
        print(
            f"source: weight on its keys; bits: entropy of that, at most {uniform:.2f}; of mean: of its mean over"
            f" queries, near bits where all look at the same tokens; on {MOST}: share of that mean on so many tokens"
        )
    print(f"{done.rows:,} rows of split {options.split!r} of task {options.task!r}; by place: {done.path}")


def _task(folder: Path, options: argparse.Namespace) -> None:
    from encdec_jax.infer.score_task import score_task
    from encdec_jax.text import console, table

    done = score_task(folder, options.task, options.split, options.module, options.examples)
    shown = table("score", "value", "95 % interval", left=1)
    for name, score in done.scores.items():
        value = f"{score.value:.4g}" if isinstance(score.value, int | float) else str(score.value)
        shown.add_row(name, value, "-" if score.low is None else f"{score.low:.4g} to {score.high:.4g}")
    console().print(shown)
    scored, total = done.examples
    left = f"; {done.too_long:,} left out, whose sources are longer than any in training" if done.too_long else ""
    print(f"{scored:,} of {total:,} examples of split {options.split!r} of task {options.task!r}{left}")
    print(f"predictions: {done.folder / 'predictions.jsonl'}")

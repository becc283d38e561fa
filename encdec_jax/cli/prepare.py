"""The verb prepare."""

from __future__ import annotations

import argparse
from typing import Any

from encdec_jax.cli.arguments import add_verb, ranged
from encdec_jax.errors import require
from encdec_jax.ranges import Range


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    text = "tokenise files, or a seqio Task or Mixture, once, into the token cache"
    parser = add_verb(verbs, "prepare", text)
    parser.add_argument(
        "--task", help="of the shipped text (bible_en, bible_en_es) or of --module; a name, with --text"
    )
    text = "a folder, file or pattern ('data/*.jsonl.gz') of .txt, .jsonl (also .gz, .zst), .parquet, or saved datasets"
    parser.add_argument("--text", metavar="FILES", help=text)
    text = "the field of FILES' documents that is text; SOURCE,TARGET for pairs; default text"
    parser.add_argument("--field", default="text", help=text)
    text = "bytes (default), spm4096 (any size), FILE.model, tokenizer.json, or own (the task's ids)"
    parser.add_argument("--vocab", default="bytes", help=text)
    parser.add_argument("--vocab-size", type=ranged("vocab_size", Range(1, 2**26), int), help="pieces, for --vocab spm")
    parser.add_argument("--module", help="Python module that registers the task: a dotted name, or FILE.py")
    text = "make the tokens anew and compare them with those that are there, instead of looking at what they came from"
    parser.add_argument("--check", action="store_true", help=text)
    parser.add_argument(
        "--mix", metavar="TASKS", help="prepared tasks with commas between, to make --task of; no tokenising"
    )
    text = "of --mix: proportional (default), equal, temperature=2, or weights as in 3,1"
    parser.add_argument("--rates", help=text)
    parser.set_defaults(function=_prepare)


def _prepare(options: argparse.Namespace) -> int:
    if options.mix is not None:
        from encdec_jax.data.mixing import mix

        others = (options.text, options.module, options.vocab_size)
        require(options.task is not None, "task", None, "with --mix, the mixture's name")
        require(
            not options.check and not any(others), "mix", options.mix, "--mix with --task, --vocab and --rates alone"
        )
        tasks = [name.strip() for name in options.mix.split(",")]
        mix(options.task, tasks, options.rates or "proportional", options.vocab)
        return 0
    require(options.rates is None, "rates", options.rates, "only with --mix")
    from encdec_jax.data.prepare import prepare

    prepare(options.task, options.vocab, options.module, options.vocab_size, options.check, options.text, options.field)
    return 0

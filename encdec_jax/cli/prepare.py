"""The verb prepare."""

from __future__ import annotations

import argparse
from typing import Any

from encdec_jax.cli.arguments import add_verb


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    text = "tokenise a seqio Task or Mixture once, into the token cache"
    parser = add_verb(verbs, "prepare", text)
    parser.add_argument("--task", required=True, help="of the shipped text (bible_en, bible_en_es), or of --module")
    parser.add_argument("--vocab", default="bytes", help="bytes (default), spm4096 (any size), or own (the task's ids)")
    parser.add_argument("--vocab-size", type=int, help="pieces, for --vocab spm")
    parser.add_argument("--module", help="Python module that registers the task: a dotted name, or FILE.py")
    text = "make the tokens anew and compare them with those that are there, instead of looking at what they came from"
    parser.add_argument("--check", action="store_true", help=text)
    parser.set_defaults(function=_prepare)


def _prepare(options: argparse.Namespace) -> int:
    from encdec_jax.data.prepare import prepare

    prepare(options.task, options.vocab, options.module, options.vocab_size, options.check)
    return 0

"""The verb match: grids of runs that are equal in what one asks for."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from encdec_jax.cli.arguments import add_verb
from encdec_jax.errors import UserError, require
from encdec_jax.files import expanded

if TYPE_CHECKING:
    from encdec_jax.compute.grid import Grid
    from encdec_jax.config import RunConfig

T = TypeVar("T")
TEXT = "print a grid of runs of equal training FLOPs, parameters, KV bytes, decoding FLOPs or tokens"
EPILOG = """\
The first family is the reference; the others get, at each of its sizes, the shape and the tokens that make them equal.

  encdec match --budget 1e18 --families causal_lm,prefix_lm,enc_dec
  encdec match --budget 1e18 --families causal_lm,enc_dec --split 1/3,1/2,2/3 --equal params --lengths 1024/256
  encdec match --rule redllm                      what a paper compared, and how equal that is
  encdec match --rule                             the papers' rules
"""
BATCH_TOKENS = 2**17
SWEEP = '''"""{n} runs that `encdec match` made equal: each a JSON file in this folder, to be edited or taken away."""

from pathlib import Path

from encdec_jax.config import from_dict
from encdec_jax.files import read_json

QUESTION = {question}
BASELINE = {baseline}
CONFOUNDERS = {{}}  # what else could explain a difference, and how it is handled
PREDICTIONS = []


def runs():
    for path in sorted(Path(__file__).parent.glob("*.json")):
        yield from_dict(read_json(path))
'''


def add(verbs: Any) -> argparse.ArgumentParser:
    """Add the verb to the parser."""
    parser = add_verb(verbs, "match", TEXT, EPILOG)
    option = parser.add_argument
    option("--budget", metavar="FLOPS", help="training FLOPs of each run, as 1e18; only a rule's own sizes need none")
    option("--families", metavar="ARCH,...", help="architectures; default causal_lm,prefix_lm,enc_dec")
    option(
        "--equal",
        metavar="NAME,...",
        default="",
        help="one of params, params_nonembed, kv_bytes, decode_flops or none; one of train_flops (default), tokens",
    )
    option(
        "--split", metavar="A/B,...", help="the encoder's share of the layers; several make a family each; default 1/2"
    )
    option("--lengths", metavar="S/T", help="tokens of source and target; default 1024/1024")
    option("--sizes", metavar="N", help="sizes, a factor 2 apart around the compute-optimal one; default 5")
    option("--widths", metavar="D,...", help="d_model of the reference at each size, instead")
    option("--aspect", metavar="X", default="128", help="d_model over the layers of all stacks; default 128 (RedLLM's)")
    option("--multiple", metavar="N", default="64", help="of d_model and d_ff above d_model 512; default 64")
    option("--vocab", metavar="N", help="bytes, or the pieces of a SentencePiece vocabulary; default 32768")
    option("--task", help="that the configurations read; default bible_en")
    batch = parser.add_mutually_exclusive_group()
    batch.add_argument(
        "--batch", metavar="N", help="windows of an update; fewer where the budget is too small for them"
    )
    batch.add_argument("--batch-tokens", metavar="N", help=f"tokens of an update, instead; default {BATCH_TOKENS}")
    option("--min-updates", metavar="N", default="500", help="updates that each run has at least; default 500")
    option(
        "--rule", nargs="?", const="", metavar="NAME", help="shapes by a paper's rule; without a name, list the rules"
    )
    option("--recipe", metavar="KIND", help="learning rate and batch of each size: mup or inverse_width")
    option("--json", action="store_true", help="print one JSON object")
    option("--out", type=expanded, metavar="FOLDER", help="make an experiment of it: a sweep.py, and each run as JSON")
    parser.set_defaults(function=_match)
    return parser


def _match(options: argparse.Namespace) -> int:
    from encdec_jax.tables.match import print_grid, print_rules
    from encdec_jax.text import console

    if options.rule == "":
        print_rules(console())
        return 0
    found = _grid(options)
    written = _write(found, options.out) if options.out else []
    if options.json:
        print(json.dumps(found.json(), indent=1))
        return 0
    print_grid(found, console())
    if written:
        print(f"an experiment of {len(written)} runs: encdec plan {options.out}")
    return 0


def _grid(options: argparse.Namespace) -> Grid:
    from encdec_jax.compute.grid import BASE, grid
    from encdec_jax.compute.rules import rule as rule_of

    rule = rule_of(options.rule) if options.rule not in (None, "exact") else None
    lengths = None if options.lengths is None else _lengths(options.lengths)
    own_sizes = rule is None or options.sizes is not None or options.widths is not None
    base = _base(options, BASE, sum(lengths) if lengths else 2048) if own_sizes else None
    for name in ("vocab", "task", "batch", "batch_tokens"):
        value = getattr(options, name)
        require(
            own_sizes or value is None, name, value, f"none beside rule {options.rule!r}'s own sizes: give --widths"
        )

    def made(base: RunConfig | None) -> Grid:
        return grid(
            None if options.budget is None else _number(float, "budget", options.budget, "training FLOPs, as 1e18"),
            _list(options.families or ("causal_lm,enc_dec" if rule else "causal_lm,prefix_lm,enc_dec")),
            equal=_list(options.equal),
            splits=None if options.split is None else _numbers(Fraction, "split", options.split, "shares, as 1/2,2/3"),
            lengths=lengths,
            sizes=None if options.sizes is None else _whole("sizes", options.sizes),
            widths=None if options.widths is None else _numbers(int, "widths", options.widths, "whole numbers"),
            aspect=_number(float, "aspect", options.aspect, "a number"),
            multiple=_whole("multiple", options.multiple),
            base=base,
            rule=rule,
            min_updates=_whole("min_updates", options.min_updates),
        )

    found = made(base)
    if options.recipe is None:
        return found
    from encdec_jax.train.transfer import recipe

    if base is not None and options.batch is None and options.batch_tokens is None:
        first = recipe(found.cells[0].run, options.recipe)  # the batch follows from the budget, so it is one for all
        found = made(replace(base, train=replace(base.train, batch_size=first.train.batch_size)))
    cells = tuple(replace(cell, run=recipe(cell.run, options.recipe, batch="keep")) for cell in found)
    return replace(found, cells=cells)


def _base(options: argparse.Namespace, base: RunConfig, window: int) -> RunConfig:
    """What the runs have in common, by the options."""
    from encdec_jax.data.vocab import ByteVocab

    name, size = "bytes", ByteVocab.size
    if options.vocab != "bytes":
        size = _whole("vocab", (options.vocab or str(base.model.vocab_size)).removeprefix("spm"))
        name = f"spm{size}"  # as `encdec prepare` names it
    if options.batch is not None:
        batch = _whole("batch", options.batch)
    else:
        batch = max(1, _whole("batch_tokens", options.batch_tokens or str(BATCH_TOKENS)) // window)
    return replace(
        base,
        model=replace(base.model, vocab_size=size),
        data=replace(base.data, vocab=name, task=options.task or base.data.task),
        train=replace(base.train, batch_size=batch),
    )


def _write(found: Grid, folder: Path) -> list[Path]:
    """Write a configuration a cell, and a sweep.py that reads them; nothing if one is there already."""
    from encdec_jax.compute.families import family_of
    from encdec_jax.config import to_dict
    from encdec_jax.files import atomic_write, write_json

    names = [f"{cell.name}-{cell.family.label}.json".replace(" ", "-").replace("/", "of") for cell in found]
    paths = [folder / name for name in names]
    for path in (*paths, folder / "sweep.py"):
        require(not path.exists(), "out", str(folder), f"a folder without {path.name}: nothing is overwritten")
    for path, cell in zip(paths, found, strict=True):
        write_json(path, to_dict(cell.run))
    first, *others = dict.fromkeys(family_of(cell.run.model).label for cell in found)
    question = f"At equal {' and '.join(found.equal) or 'sizes'}, how does {first} compare with {', '.join(others)}?"
    text = SWEEP.format(n=len(paths), question=json.dumps(question), baseline=json.dumps(first))
    atomic_write(folder / "sweep.py", text)
    return paths


def _lengths(text: str) -> tuple[int, int]:
    source, slash, target = text.partition("/")
    accepted = "source and target tokens, as 1024/256"
    require(bool(slash), "lengths", text, accepted)
    return _number(int, "lengths", source, accepted), _number(int, "lengths", target, accepted)


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _whole(name: str, text: str) -> int:
    return _number(int, name, text, "a whole number of at least 1")


def _numbers(kind: Callable[[str], T], name: str, text: str, accepted: str) -> list[T]:
    return [_number(kind, name, part, accepted) for part in _list(text)]


def _number(kind: Callable[[str], T], name: str, text: str, accepted: str) -> T:
    try:
        return kind(text)
    except (ValueError, ZeroDivisionError):
        raise UserError(f"{name} = {text!r} is not accepted: {accepted}") from None

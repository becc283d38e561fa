"""The verb match: grids of runs that are equal in what one asks for."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

from encdec_jax.cli.arguments import add_verb
from encdec_jax.errors import UserError, require
from encdec_jax.files import expanded
from encdec_jax.ranges import COUNT, Range, number

if TYPE_CHECKING:
    from encdec_jax.compute.grid import Grid
    from encdec_jax.config import RunConfig
    from encdec_jax.data.config import ObjectiveConfig

T = TypeVar("T")
TEXT = "print a grid of runs of equal training FLOPs, parameters, KV bytes, decoding FLOPs or tokens"
EPILOG = """\
The first family is the reference; the others get, at each of its sizes, the shape and the tokens that make them equal.

  encdec match --budget 1e18 --families causal_lm,prefix_lm,enc_dec
  encdec match --budget 1e18 --families causal_lm,enc_dec --split 1/3,1/2,2/3 --equal params --lengths 1024/256
  encdec match --budget 2e17,6e17,2e18 --sizes 5 --seeds 2 --out FOLDER      an IsoFLOP study: encdec plan FOLDER
  encdec match --budget 1e18 --families causal_lm,enc_dec --objective causal_lm=causal_lm,ul2 --tuning 0.1
  encdec match --rule redllm                      what a paper compared, and how equal that is
  encdec match --rule                             the papers' rules
"""
BATCH_TOKENS = 2**17
SHARES = "shares of the layers between 0 and 1, as 1/2,2/3"


def add(verbs: Any) -> argparse.ArgumentParser:
    """Add the verb to the parser."""
    parser = add_verb(verbs, "match", TEXT, EPILOG)
    option = parser.add_argument
    text = "training FLOPs of each run, as 1e18; several make a grid each; only a rule's own sizes need none"
    option("--budget", metavar="FLOPS,...", help=text)
    option("--families", metavar="ARCH,...", help="architectures; default causal_lm,prefix_lm,enc_dec")
    option(
        "--equal",
        metavar="NAME,...",
        default="",
        help="at most one of params, params_nonembed, kv_bytes, decode_flops; one of train_flops (default), tokens",
    )
    option(
        "--split", metavar="A/B,...", help="the encoder's share of the layers; several make a family each; default 1/2"
    )
    option("--lengths", metavar="S/T", help="tokens of source and target; default 1024/1024")
    option("--sizes", metavar="N", help="sizes, a factor 2 apart around the compute-optimal one; default 5")
    option("--widths", metavar="D,...", help="d_model of the reference at each size, instead")
    text = "what runs learn from: of all, or of an architecture; default: all text, or behind the source"
    option("--objective", metavar="[ARCH=]NAME,...", help=text)
    text = "last share of the tokens of runs with --objective that is prefix LM, so that they compare; default 0"
    option("--tuning", metavar="SHARE", help=text)
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
    option(
        "--json", action="store_true", help="print one JSON object: 'grids', a list with one for each budget, ascending"
    )
    option("--out", type=expanded, metavar="FOLDER", help="make an experiment of it: a sweep.py, and each run as JSON")
    option(
        "--seeds", metavar="N", default="1", help="runs of each cell in that experiment, of seeds 0 to N-1; default 1"
    )
    parser.set_defaults(function=_match)
    return parser


def _match(options: argparse.Namespace) -> int:
    from encdec_jax.sweep.matched import write_experiment
    from encdec_jax.tables.match import print_grid, print_rules
    from encdec_jax.text import console

    if options.rule == "":
        print_rules(console())
        return 0
    seeds = _whole("seeds", options.seeds)
    require(seeds == 1 or options.out is not None, "seeds", options.seeds, "1 without --out, which writes the runs")
    grids = [_grid(options, budget) for budget in _budgets(options.budget)]
    written = write_experiment(grids, options.out, seeds, options.recipe) if options.out else []
    if options.json:
        print(json.dumps({"grids": [found.json() for found in grids]}, indent=1))
        return 0
    for found in grids:
        print_grid(found, console())
    if written:
        print(f"an experiment of {len(written)} runs: encdec plan {options.out}")
    return 0


def _budgets(text: str | None) -> Sequence[float | None]:
    if text is None:
        return [None]
    budgets = _numbers(float, "budget", text, "training FLOPs, as 1e18, or several, as 2e9,6e9")
    require(len(set(budgets)) == len(budgets) > 0, "budget", text, "training FLOPs, each budget once")
    return sorted(budgets)


def _grid(options: argparse.Namespace, budget: float | None) -> Grid:
    from encdec_jax.compute.grid import BASE, grid
    from encdec_jax.compute.rules import rule as rule_of

    rule = rule_of(options.rule) if options.rule not in (None, "exact") else None
    lengths = None if options.lengths is None else _lengths(options.lengths)
    own_sizes = rule is None or options.sizes is not None or options.widths is not None
    window = sum(lengths) if lengths else 2048
    families = _list(options.families or ("causal_lm,enc_dec" if rule else "causal_lm,prefix_lm,enc_dec"))
    objectives = _objectives(options, families)
    base = _base(options, BASE, window, _written(objectives, window)) if own_sizes else None
    for name in ("vocab", "task", "batch", "batch_tokens", "objective"):
        value = getattr(options, name)
        require(
            own_sizes or value is None, name, value, f"none beside rule {options.rule!r}'s own sizes: give --widths"
        )

    def made(base: RunConfig | None) -> Grid:
        return grid(
            budget,
            families,
            equal=_list(options.equal),
            splits=None if options.split is None else _numbers(_share, "split", options.split, SHARES),
            lengths=lengths,
            sizes=None if options.sizes is None else _whole("sizes", options.sizes),
            widths=None
            if options.widths is None
            else [number("widths", part, COUNT, int) for part in _list(options.widths)],
            aspect=number("aspect", options.aspect, Range(0, 1e6, above=True)),
            multiple=_whole("multiple", options.multiple),
            base=base,
            rule=rule,
            min_updates=_whole("min_updates", options.min_updates),
            objectives=objectives,
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


def _objectives(options: argparse.Namespace, families: list[str]) -> dict[str, ObjectiveConfig]:
    """Objectives by architectures, as `grid` takes them."""
    from encdec_jax.compute.families import EVERY
    from encdec_jax.data.config import ObjectiveConfig
    from encdec_jax.data.objectives.named import NAMED

    alone = options.tuning is not None and options.objective is None
    require(not alone, "tuning", options.tuning, "none without --objective, of whose runs it is a part")
    tuning = 0.0 if options.tuning is None else _number(float, "tuning", options.tuning, "a share of the tokens")
    found: dict[str, ObjectiveConfig] = {}
    for part in _list(options.objective or ""):
        arch, equals, name = part.rpartition("=")
        require(not equals or arch in families, "objective", part, "one of --families before =: " + ", ".join(families))
        require(name in NAMED, "objective", name, "one of " + ", ".join(NAMED))
        require((arch or EVERY) not in found, "objective", options.objective, "one for each architecture")
        found[arch or EVERY] = ObjectiveConfig(name, tuning=tuning)  # type: ignore[arg-type]
    return found


def _written(objectives: dict[str, ObjectiveConfig], window: int) -> int:
    """Ids that objectives write beside those of the text."""
    from encdec_jax.data.objectives.named import objective_of

    made = [objective_of(config) for config in objectives.values()]
    return max((one.sentinels(window) + len(one.marks) for one in made), default=0)


def _base(options: argparse.Namespace, base: RunConfig, window: int, written: int) -> RunConfig:
    """What the runs have in common, by the options; `written` ids stand above those of the vocabulary."""
    from encdec_jax.data.vocab import ByteVocab

    name, size = "bytes", ByteVocab.size
    if options.vocab != "bytes":
        size = base.model.vocab_size
        if options.vocab is not None:
            accepted = "bytes, or the pieces of a SentencePiece vocabulary, at least 1, as 4096"
            size = _number(lambda text: _count(text.removeprefix("spm")), "vocab", options.vocab, accepted)
        name = f"spm{size}"  # as `encdec prepare` names it
    if options.batch is not None:
        batch = _whole("batch", options.batch)
    else:
        batch = max(1, _whole("batch_tokens", options.batch_tokens or str(BATCH_TOKENS)) // window)
    return replace(
        base,
        model=replace(base.model, vocab_size=size + written),
        data=replace(base.data, vocab=name, task=options.task or base.data.task),
        train=replace(base.train, batch_size=batch),
    )


def _lengths(text: str) -> tuple[int, int]:
    source, slash, target = text.partition("/")
    accepted = "source and target tokens, as 1024/256"
    require(bool(slash), "lengths", text, accepted)
    return number("lengths", source, COUNT, int), number("lengths", target, COUNT, int)


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _whole(name: str, text: str) -> int:
    return int(number(name, text, COUNT, int))


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError
    return count


def _share(text: str) -> Fraction:
    share = Fraction(text)
    if not 0 < share < 1:
        raise ValueError
    return share


def _numbers(kind: Callable[[str], T], name: str, text: str, accepted: str) -> list[T]:
    return [_number(kind, name, part, accepted) for part in _list(text)]


def _number(kind: Callable[[str], T], name: str, text: str, accepted: str) -> T:
    try:
        return kind(text)
    except (ValueError, ZeroDivisionError):
        raise UserError(f"{name} = {text!r} is not accepted: {accepted}") from None

"""The verbs that look at one configuration, or train it: train, preview, count."""

from __future__ import annotations

import argparse
import json
import logging
from typing import Any

from encdec_jax import cpus
from encdec_jax.cli.arguments import add_config_verb, given_config, ranged
from encdec_jax.config import RunConfig
from encdec_jax.data.config import ObjectiveConfig
from encdec_jax.errors import require
from encdec_jax.evaluate.config import EvalConfig
from encdec_jax.files import atomic_write, expanded
from encdec_jax.model.presets import preset
from encdec_jax.model.zoo import named
from encdec_jax.ranges import Range

log = logging.getLogger(__name__)


def add(verbs: Any) -> None:
    """Add the verbs to the parser."""
    train = add_config_verb(verbs, "train", "train and score one configuration")
    train.add_argument("--folder", type=expanded, help="of the run; default: runs/single/<id of the configuration>")
    train.set_defaults(function=_train)
    text = "print what source and target are: decoded, with loss weights, segments, positions and masks"
    preview = add_config_verb(verbs, "preview", text)
    preview.add_argument(
        "-n", "--rows", type=ranged("rows", Range(1, 10_000), int), default=2, help="rows to print; default 2"
    )
    preview.add_argument("--task", help="data.task of the configuration")
    preview.add_argument("--vocab", help="data.vocab of the configuration")
    preview.add_argument("--objective", metavar="NAME", help="objective.name of the configuration")
    preview.add_argument("--arch", help="architecture, where no CONFIG is given; default enc_dec")
    preview.add_argument("--html", type=expanded, metavar="FILE", help="write what is printed as a page, too")
    preview.usage = "encdec preview [CONFIG] [--config.FIELD=VALUE ...] [options]"
    preview.set_defaults(function=_preview, given=_previewed)
    count = add_config_verb(
        verbs, "count", "print parameters, FLOPs and bytes, of training, prefill and decoding, by group"
    )
    text = "restate the training FLOPs as 6ND, kaplan, chinchilla, maxtext or levanter count them"
    count.add_argument("--as", dest="convention", metavar="NAME", help=text)
    count.add_argument("--json", action="store_true", help="print one JSON object")
    count.add_argument("--preset", metavar="NAME", help="a published model in place of CONFIG: t5-base, roe-330m, ...")
    count.set_defaults(function=_count, given=_counted)


def _train(options: argparse.Namespace) -> int:
    cpus.keep_freed_memory()
    from encdec_jax.sweep.single import train_one

    return train_one(options.run, options.folder)


def _preview(options: argparse.Namespace) -> int:
    from encdec_jax.data.preview import preview
    from encdec_jax.text import console

    shown = console()
    shown.record = options.html is not None
    preview(options.run, options.rows, shown)
    if options.html is not None:
        atomic_write(options.html, shown.export_html(inline_styles=True))
    return 0


def _previewed(options: argparse.Namespace, rest: list[str]) -> RunConfig:
    """The configuration that arguments name; without CONFIG a small one, with more ids than any vocabulary has."""
    fields = {"data.task": options.task, "data.vocab": options.vocab, "objective.name": options.objective}
    rest = [*rest, *(f"--config.{field}={value}" for field, value in fields.items() if value is not None)]
    if any(not argument.startswith("--config.") for argument in rest):
        require(options.arch is None, "arch", options.arch, "none beside CONFIG, which has one")
        return given_config(rest)
    model = preset(options.arch or "enc_dec", d_model=64, dec_layers=2, vocab_size=1_000_000)
    scored = EvalConfig(prefix=1, suffix=1, windows=1)
    return given_config(rest, RunConfig(model, objective=ObjectiveConfig("prefix_lm"), evaluate=scored))


def _counted(options: argparse.Namespace, rest: list[str]) -> RunConfig:
    """The configuration that arguments name, or that of a published model, with what they change of it."""
    if options.preset is None:
        return given_config(rest)
    found = named(options.preset)
    config = next((argument for argument in rest if not argument.startswith("--config.")), None)
    require(config is None, "CONFIG", config, "none beside --preset, which is one")
    if found.lacks:
        log.warning("%s lacks here: %s", options.preset, "; ".join(found.lacks))
    name = found.objective or ("causal_lm" if found.config.choices.causal else "prefix_lm")
    objective = ObjectiveConfig(name, source_loss=found.source_loss)
    return given_config(rest, RunConfig(found.config, objective=objective))


def _count(options: argparse.Namespace) -> int:
    from encdec_jax.tables.conventions import print_restated, restated_json
    from encdec_jax.tables.count import count_json, print_count
    from encdec_jax.text import console

    run, name = options.run, options.convention
    if options.json:
        counted = count_json(run) if name is None else restated_json(run, name)
        print(json.dumps(counted, indent=1))
    elif name is None:
        print_count(run, console())
    else:
        print_restated(run, console(), name)
    return 0

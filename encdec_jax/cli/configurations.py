"""The verbs that look at one configuration, or train it: train, preview, count."""

from __future__ import annotations

import argparse
import json
from typing import Any

from encdec_jax.cli.arguments import add_config_verb
from encdec_jax.errors import require
from encdec_jax.files import expanded


def add(verbs: Any) -> None:
    """Add the verbs to the parser."""
    train = add_config_verb(verbs, "train", "train and score one configuration")
    train.add_argument("--folder", type=expanded, help="of the run; default: runs/single/<id of the configuration>")
    train.set_defaults(function=_train)
    text = "print what source and target are: decoded, with loss weights, segments and positions"
    preview = add_config_verb(verbs, "preview", text)
    preview.add_argument("--rows", type=int, default=2, help="rows to print; default 2")
    preview.set_defaults(function=_preview)
    count = add_config_verb(
        verbs, "count", "print parameters, FLOPs and bytes, of training, prefill and decoding, by group"
    )
    text = "the share of a batch's positions that hold tokens, as packing leaves them; default 1"
    count.add_argument("--fill", type=float, default=1.0, metavar="SHARE", help=text)
    text = "restate the training FLOPs as 6ND, kaplan, chinchilla, maxtext or levanter count them"
    count.add_argument("--as", dest="convention", metavar="NAME", help=text)
    count.add_argument("--json", action="store_true", help="print one JSON object")
    count.set_defaults(function=_count)


def _train(options: argparse.Namespace) -> int:
    from encdec_jax.sweep.single import train_one

    return train_one(options.run, options.folder)


def _preview(options: argparse.Namespace) -> int:
    from encdec_jax.data.preview import preview
    from encdec_jax.text import console

    require(options.rows >= 1, "rows", options.rows, "at least 1")
    preview(options.run, options.rows, console())
    return 0


def _count(options: argparse.Namespace) -> int:
    from encdec_jax.tables.conventions import print_restated, restated_json
    from encdec_jax.tables.count import count_json, print_count
    from encdec_jax.text import console

    run, name = options.run, options.convention
    if options.json:
        counted = count_json(run, options.fill) if name is None else restated_json(run, name)
        print(json.dumps(counted, indent=1))
    elif name is None:
        print_count(run, console(), options.fill)
    else:
        print_restated(run, console(), name)
    return 0

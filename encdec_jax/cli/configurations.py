"""The verbs that look at one configuration, or train it: train, preview, count."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from encdec_jax.cli.config import add_verb
from encdec_jax.errors import require


def add(verbs: Any) -> None:
    """Add the verbs to the parser."""
    train = add_verb(verbs, "train", "train and score one configuration")
    train.add_argument("--folder", type=Path, help="of the run; default: runs/single/<id of the configuration>")
    train.set_defaults(function=_train)
    text = "print what source and target are: decoded, with loss weights, segments and positions"
    preview = add_verb(verbs, "preview", text)
    preview.add_argument("--rows", type=int, default=2, help="rows to print; default 2")
    preview.set_defaults(function=_preview)
    count = add_verb(verbs, "count", "print parameters and FLOPs by group and by stream")
    count.add_argument("--json", action="store_true", help="print one JSON object")
    count.set_defaults(function=_count)


def _train(options: argparse.Namespace) -> int:
    from encdec_jax.sweep.single import train_one

    return train_one(options.run, options.folder)


def _preview(options: argparse.Namespace) -> int:
    from rich.console import Console

    from encdec_jax.data.preview import preview

    require(options.rows >= 1, "rows", options.rows, "at least 1")
    preview(options.run, options.rows, Console())
    return 0


def _count(options: argparse.Namespace) -> int:
    from rich.console import Console

    from encdec_jax.compute.table import count_json, print_count

    if options.json:
        print(json.dumps(count_json(options.run), indent=1))
    else:
        print_count(options.run, Console())
    return 0

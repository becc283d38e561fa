"""The verb fetch."""

from __future__ import annotations

import argparse
from typing import Any

from encdec_jax.cli.arguments import add_verb


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    text = "fetch real data by the package managers that are there, pinned by version and hash; no NAME lists all"
    parser = add_verb(verbs, "fetch", text)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a task; then encdec prepare --task NAME")
    parser.set_defaults(function=_fetch)


def _fetch(options: argparse.Namespace) -> int:
    from encdec_jax.data.fetch.catalogue import FETCHED
    from encdec_jax.data.fetch.fetch import fetch, is_fetched
    from encdec_jax.text import console, size, table

    for name in options.names:
        fetch(name)
    if not options.names:
        listed = table("name", "what", "licence", "fetched", "to fetch", left=4)
        for name, task in FETCHED.items():
            there = "yes" if is_fetched(name) else "no"
            listed.add_row(name, task.text, task.licence, there, size(sum(one.size for one in task.artifacts)))
        console().print(listed)
    return 0

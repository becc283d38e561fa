"""The verb convert."""

from __future__ import annotations

import argparse
from typing import Any

from encdec_jax.cli.arguments import add_verb
from encdec_jax.errors import UserError
from encdec_jax.files import expanded


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    text = "make a run's folder of a Hugging Face model (--from hf DIR --to DIR), or the other way (--to hf DIR)"
    parser = add_verb(verbs, "convert", text, usage="encdec convert --from [hf] DIR --to [hf] DIR")
    for name in ("from", "to"):
        help = "a folder; 'hf' in front of one with config.json and safetensors"
        parser.add_argument(f"--{name}", dest=name, nargs="+", required=True, metavar="DIR", help=help)
    parser.set_defaults(function=_convert)


def _convert(options: argparse.Namespace) -> int:
    given = [getattr(options, "from"), options.to]
    kinds = ["/".join(one[:-1]) for one in given]
    if sorted(kinds) != ["", "hf"]:
        raise UserError("convert: give --from hf DIR --to DIR, or --from DIR --to hf DIR")
    from encdec_jax.interop.convert import from_hf, to_hf
    from encdec_jax.train.restore import VOCABULARIES

    source, folder = (expanded(one[-1]) for one in given)
    (from_hf if kinds[0] else to_hf)(source, folder)
    print(folder)
    if kinds[0]:
        carried = [folder / name for name in VOCABULARIES if (folder / name).exists()]
        what = f"its own: encdec prepare --task TASK --vocab {carried[0]}" if carried else "none came with it: bytes"
        print(f"vocabulary: {what}")
    return 0

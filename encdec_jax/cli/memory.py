"""The verb memory: will a configuration run on a device, and at which batch and length."""

from __future__ import annotations

import argparse
import json
from typing import Any

from encdec_jax.cli.arguments import add_config_verb

TEXT = "print at which batch and length a configuration trains and decodes on a device, beside matched decoders"
DEVICES = "h100-80gb,v5e,rtx3060-12gb,cpu-24gb"


def add(verbs: Any) -> argparse.ArgumentParser:
    """Add the verb to the parser."""
    parser = add_config_verb(verbs, "memory", TEXT)
    parser.add_argument(
        "--device",
        default=DEVICES,
        metavar="NAME,...",
        help=f"of h100-80gb, a100-80gb, v4, v5e, v5p, v6e, rtx3060-12gb, cpu-24gb; default {DEVICES}",
    )
    parser.add_argument(
        "--dtype", help="of weights and cache in inference: float32, bfloat16, int8, int4; default model.dtype"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(function=_memory)
    return parser


def _memory(options: argparse.Namespace) -> int:
    from encdec_jax.compute.devices import device
    from encdec_jax.tables.memory import memory_json, print_memory
    from encdec_jax.text import console

    devices = [device(name) for name in dict.fromkeys(options.device.split(","))]
    dtype = options.dtype or options.run.model.dtype
    if options.json:
        print(json.dumps(memory_json(options.run, devices, dtype), indent=1))
    else:
        print_memory(options.run, devices, dtype, console())
    return 0

"""The command line: `encdec VERB ...`. What a verb needs is imported when it is called: planning starts fast."""

from __future__ import annotations

import argparse
import glob
import logging
import os
import sys

from encdec_jax import __version__
from encdec_jax.aot.topology import WITHOUT_TPU
from encdec_jax.cli import compare, compile, configurations, experiments, fit, match, memory, predict, prepare
from encdec_jax.cli.config import given_config
from encdec_jax.errors import UserError

VERBS = (experiments, predict, fit, compare, configurations, match, memory, compile, prepare)  # in the order of --help


def main(argv: list[str] | None = None) -> int:
    """Run one verb.

    Returns:
      the exit code: 0; 1 if runs failed or a fit did not converge; 2, with one line on standard error, for what the
      user can mend; 130 if interrupted.
    """
    options, rest = _parser().parse_known_args(argv)
    _say()
    try:
        if options.takes_config:
            options.run = given_config(rest)
        elif rest:
            raise UserError(f"{options.verb}: unknown arguments: {' '.join(rest)}; see encdec {options.verb} --help")
        done: int = options.function(options)
        sys.stdout.flush()
        return done
    except UserError as error:
        print(f"encdec: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a missing right: nothing that a traceback would explain better
        print(f"encdec: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("encdec: interrupted", file=sys.stderr)
        return 130


def _say() -> None:
    """Show what the package logs, and not what libtpu says where it is installed and no TPU is there."""
    log = logging.getLogger("encdec_jax")
    log.handlers, log.propagate = [logging.StreamHandler()], False  # libraries give the root logger handlers
    log.setLevel(logging.INFO)
    if not glob.glob("/dev/accel*") and not glob.glob("/dev/vfio/*"):
        for name, value in WITHOUT_TPU.items():
            os.environ.setdefault(name, value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="encdec",
        description="At equal compute, when does an encoder-decoder beat a decoder-only model?",
        epilog="Runs go to ./runs (or ENCDEC_RUNS), tokens to ~/.cache/encdec_jax (or ENCDEC_CACHE).",
    )
    parser.add_argument("--version", action="version", version=f"encdec_jax {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        verb.add(verbs)
    return parser

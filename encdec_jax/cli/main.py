"""The command line: `encdec VERB ...`. What a verb needs is imported when it is called: planning starts fast."""

from __future__ import annotations

import argparse
import contextlib
import glob
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import NoReturn, TextIO

from encdec_jax import __version__
from encdec_jax.aot.topology import WITHOUT_TPU
from encdec_jax.cli import (
    compare,
    compile,
    configurations,
    convert,
    evaluate,
    experiments,
    fetch,
    fit,
    match,
    memory,
    predict,
    prepare,
    submit,
)
from encdec_jax.errors import UserError, one_line, require

VERBS = (
    experiments,
    submit,
    predict,
    fit,
    compare,
    configurations,
    match,
    memory,
    compile,
    fetch,
    prepare,
    evaluate,
    convert,
)  # in the order of --help


def main(argv: list[str] | None = None) -> int:
    """Run one verb.

    Returns:
      the exit code: 0; 1 if runs failed or a fit did not converge; 2, with one line on standard error, for what the
      user can mend; 130 if interrupted. A reader of the output who closes it early has seen enough: 0.
    """
    # A stream that was closed before is none at all; what it would have got goes nowhere.
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what its encoding lacks shows as its number
    try:
        try:
            code = _run(argv)
        finally:
            sys.stdout.flush()  # here, not at exit, where nothing catches what goes wrong
        return code
    except BrokenPipeError:
        for stream in (sys.stdout, sys.stderr):
            _forget(stream)
        return 0


def _run(argv: list[str] | None) -> int:
    try:
        given = sys.argv[1:] if argv is None else argv
        empty = next((one for one in given if one.startswith("--") and one.endswith("=--")), None)
        require(empty is None, "argument", empty, "a value")  # argparse makes a list of none of it
        options, rest = _parser().parse_known_args(given)
        with _said():
            if options.takes_config:
                options.run = options.given(options, rest)
            elif rest:
                said = " ".join(rest)
                raise UserError(f"{options.verb}: unknown arguments: {said}; see encdec {options.verb} --help")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of NumPy: what it means, a verb says itself
                done: int = options.function(options)
        return done
    except UserError as error:
        print(f"encdec: {one_line(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk, a missing right: nothing that a traceback would explain better
        print(f"encdec: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("encdec: interrupted", file=sys.stderr)
        return 130


def _forget(stream: TextIO) -> None:
    """Let what is left in a stream's buffer go nowhere, if its reader is gone."""
    try:
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """Show what the package logs, and not what libtpu says where it is installed and no TPU is there."""
    if not glob.glob("/dev/accel*") and not glob.glob("/dev/vfio/*"):
        for name, value in WITHOUT_TPU.items():
            os.environ.setdefault(name, value)
    log = logging.getLogger("encdec_jax")
    before = log.handlers, log.propagate, log.level
    log.handlers, log.propagate = [logging.StreamHandler()], False  # libraries give the root logger handlers
    log.setLevel(logging.INFO)
    try:
        yield
    finally:  # a verb called from Python leaves nothing that writes to a stream of before
        log.handlers, log.propagate = before[:2]
        log.setLevel(before[2])


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with a command."""

    def error(self, message: str) -> NoReturn:
        """Raise a `UserError` instead of printing how the verb is used."""
        raise UserError(f"{self.prog.removeprefix('encdec ')}: {message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="encdec",
        description="At equal compute, when does an encoder-decoder beat a decoder-only model?",
        epilog="Runs go to ./runs (or ENCDEC_RUNS), tokens to ~/.cache/encdec_jax (or ENCDEC_CACHE).",
    )
    parser.add_argument("--version", action="version", version=f"encdec_jax {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        verb.add(verbs)
    return parser

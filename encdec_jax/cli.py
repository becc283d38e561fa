"""The command line: `encdec VERB ...`. What a verb needs is imported when it is called: planning starts fast."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from encdec_jax import config as configuration
from encdec_jax.config import RunConfig, from_dict
from encdec_jax.errors import UserError, require

Verb = Callable[[argparse.Namespace], int]


def main(argv: list[str] | None = None) -> int:
    """Run one verb.

    Returns:
      the exit code: 0; 1 if runs failed; 2, with one line on standard error, for what the user can mend; 130 if
      interrupted.
    """
    options, rest = _parser().parse_known_args(argv)
    try:
        if options.takes_config:
            options.run = _run_config(rest)
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


def _plan(options: argparse.Namespace) -> int:
    from encdec_jax.sweep.plan import print_plan

    return print_plan(options.folder)


def _run(options: argparse.Namespace) -> int:
    from encdec_jax.sweep.launch import run

    return run(options.folder, options.jobs)


def _status(options: argparse.Namespace) -> int:
    from encdec_jax.sweep.status import print_status

    return print_status(options.folder)


def _collect(options: argparse.Namespace) -> int:
    from encdec_jax.sweep.results import collect_into

    return collect_into(options.folder)


def _report(options: argparse.Namespace) -> int:
    from encdec_jax.report.html import write_report

    path = write_report(options.folder)
    print(f"report: {path}")
    figure = path.with_name("figure.png")
    if figure.exists():
        print(f"figure: {figure}")
    return 0


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


def _prepare(options: argparse.Namespace) -> int:
    from encdec_jax.data.prepare import prepare

    prepare(options.task, options.vocab, options.module, options.vocab_size)
    return 0


_EXPERIMENT_VERBS: dict[str, tuple[Verb, str]] = {
    "plan": (_plan, "print each run's id, shape, parameters, tokens, FLOPs and estimated seconds; spend nothing"),
    "run": (_run, "do every run that is missing, with worker processes; killed or repeated, it goes on where it was"),
    "status": (_status, "show which runs are pending, running, stale, done, diverged or failed"),
    "collect": (_collect, "copy a finished study's table and figure from the runs folder into the experiment folder"),
    "report": (_report, "fit the laws and write report.html and figure.png into the experiment's runs folder"),
}
_CONFIG_VERBS: dict[str, tuple[Verb, str]] = {
    "train": (_train, "train and score one configuration"),
    "preview": (_preview, "print what source and target are: decoded, with loss weights, segments and positions"),
    "count": (_count, "print parameters and FLOPs by group and by stream"),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="encdec",
        description="At equal compute, when does an encoder-decoder beat a decoder-only model?",
        epilog="Runs go to ./runs (or ENCDEC_RUNS), tokens to ~/.cache/encdec_jax (or ENCDEC_CACHE).",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    made: dict[str, argparse.ArgumentParser] = {}
    for name, (function, text) in _EXPERIMENT_VERBS.items():
        made[name] = verbs.add_parser(name, help=text, description=text)
        made[name].add_argument("folder", type=Path, metavar="EXPERIMENT", help="a folder that holds a sweep.py")
        made[name].set_defaults(function=function, takes_config=False)
    made["run"].add_argument("-j", "--jobs", type=int, help="worker processes; default: one a CPU, each on its own")
    for name, (function, text) in _CONFIG_VERBS.items():
        made[name] = verbs.add_parser(
            name,
            help=text,
            description=text,
            usage=f"encdec {name} --config=FILE[:ARG] [--config.FIELD=VALUE ...] [options]",
            epilog=_fields(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        made[name].set_defaults(function=function, takes_config=True)
    made["train"].add_argument("--folder", type=Path, help="of the run; default: runs/single/<id of the configuration>")
    made["preview"].add_argument("--rows", type=int, default=2, help="rows to print; default 2")
    made["count"].add_argument("--json", action="store_true", help="print one JSON object")
    text = "tokenise a seqio Task or Mixture once, into the token cache"
    prepare = verbs.add_parser("prepare", help=text, description=text)
    prepare.add_argument("--task", required=True, help="of the shipped text (bible_en, bible_en_es), or of --module")
    prepare.add_argument(
        "--vocab", default="bytes", help="bytes (default), spm4096 (any size), or own (the task's ids)"
    )
    prepare.add_argument("--vocab-size", type=int, help="pieces, for --vocab spm")
    prepare.add_argument("--module", help="dotted name of a Python module that registers the task")
    prepare.set_defaults(function=_prepare, takes_config=False)
    return parser


def _fields() -> str:
    """How a configuration is given, and every field of it as its class documents it, units included."""
    parts = [
        "--config=FILE[:ARG]     a Python file whose get_config(ARG) gives an ml_collections ConfigDict",
        "--config.FIELD=VALUE    any field of it, as in --config.optim.lr=1e-3",
        "",
        "fields of a configuration:",
    ]
    for field in ("model", "data", "objective", "optim", "train", "evaluate", "mesh"):
        cls = getattr(configuration, f"{field.capitalize()}Config".replace("Evaluate", "Eval"))
        parts.append(f"\n{field}: {inspect.getdoc(cls)}")
    return "\n".join([*parts, f"\nmodel.encoder, model.decoder: {inspect.getdoc(configuration.StackConfig)}"])


def _run_config(arguments: list[str]) -> RunConfig:
    """The configuration that --config flags name.

    Raises:
      UserError: a flag, the file, a field or a value is not accepted.
    """
    named = [a for a in arguments if a == "--config" or a.startswith("--config=")]
    if not named:
        raise UserError("--config is missing: give a file with get_config, as in --config=configs/base.py:enc_dec")
    file = named[0].removeprefix("--config").removeprefix("=").partition(":")[0]
    require(Path(file).is_file(), "--config", file, "a Python file with a function get_config")
    _check_fields(_config(named[:1])[0], arguments)
    found, left = _config(arguments)
    require(not left, "arguments", " ".join(left), "only --config and --config.FIELD flags")
    return from_dict(found)


def _config(arguments: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The configuration as nested data, and the arguments that are not of it."""
    from absl import flags
    from ml_collections import config_flags

    values: Any = flags.FlagValues()
    line = ["encdec", *arguments]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=line)
    try:
        left = values(line)[1:]
        return values.config.to_dict(), left
    except Exception as error:  # of absl, of ml_collections, or of the user's file
        raise UserError(f"{arguments[0]} is not accepted: {_first_line(error)}") from error


def _check_fields(config: dict[str, Any], arguments: list[str]) -> None:
    """Refuse --config.FIELD of a field that there is not, in our words: those of the flags' library name no field."""
    for argument in arguments:
        if not argument.startswith("--config."):
            continue
        path, inner = argument.removeprefix("--config.").partition("=")[0], config
        for name in path.split("."):
            if not isinstance(inner, dict) or name not in inner:
                accepted = ", ".join(inner) if isinstance(inner, dict) else "nothing below it"
                raise UserError(f"--config.{path}: field '{name}' is unknown; accepted there: {accepted}")
            inner = inner[name]


def _first_line(error: BaseException) -> str:
    """What an exception says in a line; of a `UserError` below it, if there is one, that line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

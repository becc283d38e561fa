"""How a configuration is given on the command line, and what its fields mean."""

from __future__ import annotations

import argparse
import inspect
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from encdec_jax.config import RunConfig, from_dict
from encdec_jax.errors import UserError, require
from encdec_jax.files import read_json
from encdec_jax.model.config import StackConfig


def add_verb(verbs: Any, name: str, text: str) -> argparse.ArgumentParser:
    """A verb that takes a configuration: its function finds the `RunConfig` in `options.run`."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=text,
        description=text,
        usage=f"encdec {name} CONFIG [--config.FIELD=VALUE ...] [options]",
        epilog=fields(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(takes_config=True)
    return parser


def fields() -> str:
    """How a configuration is given, and every field of it as its class documents it, units included."""
    parts = [
        "CONFIG                  FILE.py[:ARG], whose get_config(ARG) gives an ml_collections ConfigDict;",
        "                        or FILE.json, as a run's folder holds it. --config=FILE.py[:ARG] says the same.",
        "--config.FIELD=VALUE    any field of it, as in --config.optim.lr=1e-3",
        "",
        "fields of a configuration:",
    ]
    for field, cls in get_type_hints(RunConfig).items():
        if is_dataclass(cls):
            parts.append(f"\n{field}: {inspect.getdoc(cls)}")
    return "\n".join([*parts, f"\nmodel.encoder, model.decoder: {inspect.getdoc(StackConfig)}"])


def given_config(arguments: list[str]) -> RunConfig:
    """The configuration that arguments name: CONFIG or --config=CONFIG, and --config.FIELD=VALUE.

    Raises:
      UserError: an argument, the file, a field or a value is not accepted.
    """
    given = [a.removeprefix("--config=") for a in arguments if not a.startswith("--config.") and a != "--config"]
    if not given:
        raise UserError("CONFIG is missing: give a file with get_config, as in configs/base.py:enc_dec")
    require(len(given) == 1, "arguments", " ".join(given), "one CONFIG, and --config.FIELD=VALUE")
    file = Path(given[0].partition(":")[0])
    require(file.is_file(), "CONFIG", str(file), "a Python file with a function get_config, or a run's config.json")
    changes = [a for a in arguments if a.startswith("--config.")]
    _check_fields(_config(given[0], []), changes)
    return from_dict(_config(given[0], changes))


def _config(given: str, changes: list[str]) -> dict[str, Any]:
    """The configuration as nested data."""
    from absl import flags
    from ml_collections import ConfigDict, config_flags

    values: Any = flags.FlagValues()
    json = given.endswith(".json")
    line = ["encdec", *changes] if json else ["encdec", f"--config={given}", *changes]
    where: Any = {"flag_values": values, "sys_argv": line}
    try:
        if json:
            config_flags.DEFINE_config_dict("config", ConfigDict(read_json(Path(given))), **where)
        else:
            config_flags.DEFINE_config_file("config", **where)
        values(line)
        return values.config.to_dict()
    except Exception as error:  # of absl, of ml_collections, or of the user's file
        raise UserError(f"CONFIG = {given!r} is not accepted: {_first_line(error)}") from error


def _check_fields(config: dict[str, Any], arguments: list[str]) -> None:
    """Refuse --config.FIELD of a field that there is not, in our words: those of the flags' library name no field."""
    for argument in arguments:
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

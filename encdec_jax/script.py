"""Run a user's Python file (a sweep.py, a configuration), and say in a line what is wrong with it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from encdec_jax.errors import UserError

T = TypeVar("T")


def execute(script: Path) -> ModuleType:
    """The file as a module. Compiled here, not imported: no bytecode is left in its folder, none there is trusted.

    Raises:
      UserError: it can't be read, or raises an exception.
    """
    module = ModuleType(f"script {script.resolve()}")
    module.__file__ = str(script)
    sys.modules[module.__name__] = module  # dataclasses look up the module that they are defined in
    try:
        exec(compile(script.read_bytes(), str(script), "exec", dont_inherit=True), module.__dict__)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise _mistake(script, error) from error
    return module


def called(function: Callable[..., T], script: Path, *arguments: Any) -> T:
    """What a function of a script gives.

    Raises:
      UserError: it raises an exception.
    """
    try:
        return function(*arguments)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise _mistake(script, error) from error


def _mistake(script: Path, error: BaseException) -> UserError:
    """One line on an exception of a script: the last place in it that led there, its type and its message."""
    if isinstance(error, SyntaxError) and error.filename == str(script):
        line, text = error.lineno, error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(script)), None)
        text = " ".join(str(error).split())
    place = f"{script}:{line}" if line else str(script)
    return UserError(f"{place}: {type(error).__name__}: {text}" if text else f"{place}: {type(error).__name__}")

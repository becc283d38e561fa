"""Run a user's Python file (a sweep.py, a configuration), and say in a line what is wrong with it."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NoReturn, TypeVar

from encdec_jax.errors import UserError

T = TypeVar("T")
LIMIT = 300.0  # seconds that a script, or a function of it, may take


def execute(script: Path) -> ModuleType:
    """The file as a module. Compiled here, not imported: no bytecode is left in its folder, none there is trusted.

    Raises:
      UserError: it raises an exception, or does not end.
    """
    module = ModuleType(f"script {script.resolve()}")
    module.__file__ = str(script)
    sys.modules[module.__name__] = module  # dataclasses look up the module that they are defined in
    called(lambda: exec(compile(script.read_bytes(), str(script), "exec", dont_inherit=True), module.__dict__), script)
    return module


def called(function: Callable[..., T], script: Path, *arguments: Any) -> T:
    """What a function of a script gives.

    Raises:
      UserError: it raises an exception, or does not end within `LIMIT`.
    """
    try:
        with _limited():
            return function(*arguments)
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # whatever a stranger's file raises, SystemExit too
        raise _mistake(script, error) from error


class _Endless(BaseException):
    """No `Exception`: a script that passes over those does not pass over this."""


@contextmanager
def _limited() -> Iterator[None]:
    """Within, `_Endless` is raised after `LIMIT`, and again each second; in the main thread alone: it has signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise _Endless(f"it did not end within {LIMIT:g} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, LIMIT, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _mistake(script: Path, error: BaseException) -> UserError:
    """One line on an exception of a script: the last place in it that led there, its type and its message."""
    if isinstance(error, SyntaxError) and error.filename == str(script):
        line, text = error.lineno, error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(script)), None)
        text = " ".join(str(error).split())
    place = f"{script}:{line}" if line else str(script)
    if isinstance(error, _Endless):
        return UserError(f"{place}: {text}")
    return UserError(f"{place}: {type(error).__name__}: {text}" if text else f"{place}: {type(error).__name__}")

"""The one exception that means: the user can mend this."""

from __future__ import annotations

from typing import Any

SHOWN = 300  # characters of a value that a message repeats


class UserError(Exception):
    """A mistake in what the user gave. The command line prints it as one line and exits with 2."""


def require(ok: bool, field: str, value: Any, accepted: str) -> None:
    """Raise a `UserError` that names the field, its value and what is accepted, unless `ok`."""
    if not ok:
        raise UserError(f"{field} = {shown(value)} is not accepted: {accepted}")


def shown(value: Any) -> str:
    """A value as one short line, whatever it is."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a stranger's object
        text = f"a {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def one_line(error: BaseException) -> str:
    """What an exception says, in one line that a terminal only prints: signs that would move it show as their codes."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in str(error))


class Undecided(Exception):
    """Raised by a study's findings when asked for what its runs do not show; leaves a prediction undecided."""

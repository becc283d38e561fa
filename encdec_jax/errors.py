"""The one exception that means: the user can mend this."""

from __future__ import annotations

from typing import Any


class UserError(Exception):
    """A mistake in what the user gave. The command line prints it as one line and exits with 2."""


def require(ok: bool, field: str, value: Any, accepted: str) -> None:
    """Raise a `UserError` that names the field, its value and what is accepted, unless `ok`."""
    if not ok:
        raise UserError(f"{field} = {value!r} is not accepted: {accepted}")


class Undecided(Exception):
    """Raised by a study's findings when asked for what its runs do not show; leaves a prediction undecided."""

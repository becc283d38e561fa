"""What a result was made with."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import encdec_jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on, and the commit of the source."""
    found = {name: _version(name) for name in PACKAGES}
    own = {"encdec_jax": encdec_jax.__version__, "python": platform.python_version(), "commit": _commit()}
    return {**found, **own}


def _version(package: str) -> str:
    """Of an installed package; 'unknown' where it is found on the path, without metadata."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _commit() -> str:
    """The commit of the checkout that this package is run from, '-dirty' behind it if files differ; or 'unknown'."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"

"""What a result was made with."""

from __future__ import annotations

import functools
import hashlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import encdec_jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
BEHIND = (
    "infer",
    "interop",
    "aot",
    "sweep",
    "submit",
    "laws",
    "study",
    "report",
    "tables",
    "cli",
)  # rooms not read by training
_PACKAGE = Path(__file__).parents[1]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    found = {name: _version(name) for name in PACKAGES}
    own = {"encdec_jax": encdec_jax.__version__, "python": platform.python_version()}
    return {**found, **own}


def _version(package: str) -> str:
    """Of an installed package; 'unknown' where it is found on the path, without metadata."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


@functools.cache
def code() -> str:
    """The first 12 hexadecimal digits of the SHA-256 of the package's sources that training may read, as they were when
    first asked: two runs of one code were computed by the same program, whatever was installed or committed."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        name = path.relative_to(_PACKAGE)
        if name.parts[0] not in BEHIND:
            digest.update(f"{name.as_posix()}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:12]


@functools.cache
def commit() -> str | None:
    """The commit of the checkout that this package is run from, '+dirty' behind it if files differ; None elsewhere."""
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)  # an installed copy may lie in another's checkout
        return _git("describe", "--always", "--dirty=+dirty", "--abbrev=12", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

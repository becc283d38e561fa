"""Files of packages, pinned by version and SHA-256, got by the system's package manager or by pip and kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from encdec_jax.errors import UserError
from encdec_jax.files import cache_root, sha256_file

RELEASE = "bookworm"  # Debian 12, whose packages are pinned
_NEEDS = f"the package manager of Debian 12 ({RELEASE})"


def fetched_root() -> Path:
    """Where what is fetched lies, below the cache of tokens and compilations."""
    return cache_root() / "fetched"


@dataclass(frozen=True)
class Artifact:
    """One file.

    Attributes:
      name: of the package; of a list, its language.
      version: of the package; of a list, the release.
      sha256: of the file; of a list, of its text.
      size: bytes, of the file as it is kept.
      section: of the archive that it is in.
    """

    name: str
    version: str
    sha256: str
    size: int
    section: str = "main"

    @property
    def file(self) -> str:
        """Its name where it is kept."""
        return f"{self.name}-{self.version.replace(':', '_')}"

    def get(self) -> Path:
        """The file, from where it is kept or else fetched; one that is damaged is fetched again.

        Raises:
          UserError: there is no such package manager, it fails, or it gives another file than was pinned.
        """
        path = fetched_root() / "packages" / self.file
        if path.exists() and sha256_file(path) == self.sha256:
            return path
        print(f"fetching {self.name} {self.version}: {self.size / 1e6:.1f} MB", file=sys.stderr)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".part.") as folder:
                os.chmod(folder, 0o755)  # apt downloads as a user of its own
                got = self._fetch(Path(folder))
                found = sha256_file(got)
                if found != self.sha256:
                    raise UserError(
                        f"{self.name} {self.version} has SHA-256 {found[:12]}, not the pinned {self.sha256[:12]}: the"
                        " archive holds another file"
                    )
                os.replace(got, path)
        except OSError as error:
            raise UserError(f"can't write {path}: {error.strerror or error}") from error
        return path

    def _fetch(self, folder: Path) -> Path:
        raise NotImplementedError


class Wheel(Artifact):
    """A wheel, by pip."""

    def _fetch(self, folder: Path) -> Path:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        _run([*command, f"{self.name}=={self.version}"], folder, f"{self.name}=={self.version}", "pip")
        return next(folder.glob("*.whl"))


class Package(Artifact):
    """A package of Debian, by apt, unprivileged and apart from what is installed."""

    def _fetch(self, folder: Path) -> Path:
        with _apt(self.section, "none") as options:
            _run(["apt-get", *options, "download", f"{self.name}={self.version}"], folder, self.file, _NEEDS)
        return next(folder.glob("*.deb"))


class Descriptions(Artifact):
    """The descriptions of all packages in one language, by apt: a list of stanzas."""

    def _fetch(self, folder: Path) -> Path:
        with _apt(self.section, self.name) as options:
            ending = f"_dists_{RELEASE}_{self.section}_i18n_Translation-{self.name}"
            lists = Path(next(o for o in options if o.startswith("Dir::State=")).partition("=")[2]) / "lists"
            found = [p for p in lists.iterdir() if p.name.partition(ending)[1]] if lists.exists() else []
            if not found:
                raise UserError(f"can't fetch the descriptions in {self.name}: {_NEEDS} has none")
            text = _run(["/usr/lib/apt/apt-helper", "cat-file", str(found[0])], folder, self.file, _NEEDS)
            (folder / self.file).write_bytes(text)
        return folder / self.file

    @property
    def file(self) -> str:
        """Its name where it is kept."""
        return f"descriptions-{self.version}-{self.name}"


@contextmanager
def _apt(section: str, languages: str) -> Iterator[list[str]]:
    """Options of apt for lists of the release of our own, fetched now; the system's stay as they are."""
    if shutil.which("apt-get") is None:
        raise UserError(f"fetching needs {_NEEDS}; there is no apt-get here")
    with tempfile.TemporaryDirectory(prefix="encdec-apt-") as state:
        os.chmod(state, 0o755)
        known = _run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages"],
            Path(state), "the archive's address", _NEEDS,
        ).decode()  # fmt: skip
        place = next((line.split()[0] for line in known.splitlines() if line.endswith(f" {RELEASE} main")), None)
        if place is None:
            raise UserError(f"fetching needs {_NEEDS}; this one has another release")
        (Path(state) / "sources.list").write_text(f"deb {place} {RELEASE} {section}\n")
        settings = {
            "Dir::State": f"{state}/state",
            "Dir::Cache": f"{state}/cache",
            "Dir::Etc::sourcelist": f"{state}/sources.list",
            "Dir::Etc::sourceparts": "-",
            "Acquire::Languages": languages,
            "Acquire::IndexTargets::deb::Packages::DefaultEnabled": str(languages == "none").lower(),
        }
        options = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
        for part in ("state/lists/partial", "cache/archives/partial"):
            (Path(state) / part).mkdir(parents=True)
        _run(["apt-get", *options, "--quiet", "update"], Path(state), f"the lists of {RELEASE} {section}", _NEEDS)
        yield options


def _run(command: list[str], folder: Path, what: str, who: str) -> bytes:
    """What a command prints.

    Raises:
      UserError: it is not there, or fails: the last line that it says.
    """
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    except OSError as error:
        raise UserError(f"can't fetch {what}: it needs {who}; there is no {command[0]} here") from error
    if done.returncode:
        said = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        raise UserError(f"can't fetch {what} by {who}: {said[-1].strip() if said else done.returncode}")
    return done.stdout

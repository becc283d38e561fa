"""Disks that fill up, are read-only or another user's: by real mounts and users, which takes root on Linux."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from test_run import CLOCKS
from tiny import SWEEP, environment, write_experiment, write_noise

pytestmark = pytest.mark.slow
HERE = "/mnt"  # of a mount namespace of the test's own: the machine's stays as it is
USERS = (65531, 65532)
GROUP = 65530


class Disk:
    """A small disk that only some processes see.

    Attributes:
      folder: where this process sees it.
    """

    def __init__(self, holder: subprocess.Popen[str]) -> None:
        self.folder = Path(f"/proc/{holder.pid}/root{HERE}")
        self._enter = ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt"]

    def start(self, *command: str, user: int | None = None, **variables: str) -> subprocess.Popen[str]:
        """A process that sees the disk; of a user, if one is given, who shares a group with the others."""
        who = ["setpriv", f"--reuid={user}", f"--regid={GROUP}", "--clear-groups"] if user else []
        who += [f"--{kind}-caps=+dac_read_search" for kind in ("inh", "ambient") if user]  # they read, as Python, all
        there = ["sh", "-c", f'cd {HERE} && umask 002 && exec "$@"', "sh"]
        given = environment(
            ENCDEC_RUNS=f"{HERE}/runs",
            ENCDEC_CACHE=f"{HERE}/cache",
            JAX_COMPILATION_CACHE_DIR=f"{HERE}/cache/jit",
            **({"HOME": HERE} if user else {}),
            **variables,
        )
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([*self._enter, *who, *there, *command], env=given, text=True, **pipes)

    def called(self, *command: str, user: int | None = None, **variables: str) -> tuple[int, str, str]:
        """A command's exit code, and what it said."""
        process = self.start(*command, user=user, **variables)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    def encdec(self, *arguments: str, user: int | None = None, **variables: str) -> tuple[int, str, str]:
        return self.called(sys.executable, "-m", "encdec_jax", *arguments, user=user, **variables)

    def results(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.folder / "runs" / name / "results.parquet")


@contextmanager
def mounted(mount: str, *tools: str) -> Iterator[Disk]:
    """A disk with tokens that goes with the test, mounted by a line of shell; skips where the system grants none."""
    needed = ("unshare", "nsenter", "setpriv", "mount", *tools)
    if missing := [tool for tool in needed if shutil.which(tool) is None]:
        pytest.skip(f"{', '.join(missing)} is not installed")
    script = f"({mount}) >&2 && echo mounted && cat"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = ["unshare", "--mount", "--propagation=private", "sh", "-c", script]
    with subprocess.Popen(command, text=True, **pipes) as holder, pytest.MonkeyPatch.context() as patch:
        if holder.stdout.readline() != "mounted\n":
            pytest.skip(f"no mount of one's own here: {holder.stderr.read().strip()}")
        found = Disk(holder)
        (found.folder / "pyproject.toml").touch()
        patch.setenv("ENCDEC_CACHE", str(found.folder / "cache"))
        write_noise()
        yield found
        holder.stdin.close()


@pytest.fixture
def disk() -> Iterator[Disk]:
    """Of 64 MB."""
    with mounted(f"mount -t tmpfs -o size=64m,mode=0777 none {HERE}") as found:
        yield found


@pytest.fixture
def quota(tmp_path) -> Iterator[Disk]:
    """A folder that may take 48 MB of a larger disk: by a group of Btrfs, for kernels may know no other quota."""
    image, own = tmp_path / "image", f"{HERE}/own"
    made = f"truncate -s 256M {image} && mkfs.btrfs -q {image} && mount -o loop {image} {HERE}"
    limited = f"btrfs quota enable {HERE} && btrfs subvolume create {own} && btrfs qgroup limit 48M {own}"
    with mounted(f"{made} && {limited} && mount --bind {own} {HERE}", "mkfs.btrfs", "btrfs") as found:
        yield found


@pytest.fixture
def users(disk) -> tuple[int, int]:
    """Two users of one group, to whom the program and the disk's tokens are there to be read."""
    subprocess.run(["chmod", "-R", "a+rwX", disk.folder / "cache"], check=True)
    code, _, said = disk.called(sys.executable, "-c", "import encdec_jax, tiny", user=USERS[0])
    if code:
        pytest.skip(f"other users can't run {sys.executable}: {said.strip().splitlines()[-1]}")
    return USERS


ONE = SWEEP.replace("(8, 16)", "(8,)").replace('"causal_lm", "enc_dec"', '"causal_lm",')
FILLED = """
import os
import sys
from functools import partial

if "encdec_jax.sweep.worker" in sys.orig_argv and "FILLED" in os.environ:
    from encdec_jax.train import checkpoint, loop
    from encdec_jax.train.metrics import MetricsLog
    from encdec_jax.train.trainer import Trainer

    def fill():
        with open("/mnt/ballast", "ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while file.write(bytes(size)):
                        pass
                except OSError:
                    continue

    def filled(where, name, late=False, due=lambda given: True):
        real = getattr(where, name)

        def call(*arguments, **given):
            fill() if due(given) and not late else None
            try:
                return real(*arguments, **given)
            finally:
                fill() if late else None

        setattr(where, name, call)

    {
        "compile": partial(filled, Trainer, "__call__"),
        "step": partial(filled, MetricsLog, "write", due=lambda given: given["step"] == 30),
        "room": partial(filled, checkpoint.Checkpoints, "save"),
        "save": partial(filled, checkpoint.Checkpoints, "_check_room", late=True),
        "seal": partial(filled, checkpoint, "write_json"),
        "row": partial(filled, loop, "write_json"),
    }[os.environ["FILLED"]]()
"""


def filled_in_turn(disk: Disk, error: str, *moments: str) -> None:
    """The run ends in a line; with room again, the same command goes on, to what a disk with room had given."""
    write_experiment(disk.folder / "whole", ONE)
    write_experiment(disk.folder / "study", ONE + FILLED)
    code, _, said = disk.encdec("run", "whole", "-j", "1")
    assert code == 0, said
    for moment in moments:
        code, _, said = disk.encdec("run", "study", "-j", "1", FILLED=moment)
        assert (disk.folder / "ballast").stat().st_size > 1 << 20, moment
        assert code == 2, (moment, said)
        assert "Traceback" not in said
        last = said.splitlines()[-1]
        assert last.startswith(f"encdec: can't write {HERE}/runs/"), (moment, said)
        assert error in last, (moment, said)
        assert not list((disk.folder / "runs/study").glob("*/summary.json"))
        code, shown, _ = disk.encdec("status", "study")
        assert (code, "1 runs: 1 " in shown) == (0, True)
        (disk.folder / "ballast").unlink()
    code, _, said = disk.encdec("run", "study", "-j", "1")
    assert code == 0, said
    whole, found = (disk.results(name).drop(CLOCKS) for name in ("whole", "study"))
    assert found["status"].to_list() == ["done"]
    assert found.equals(whole)
    (lines,), (its,) = ((disk.folder / "runs" / name).glob("*/metrics.jsonl") for name in ("study", "whole"))
    assert lines.read_bytes() == its.read_bytes()


def test_a_disk_that_fills_up_at_each_moment_in_turn(disk):
    filled_in_turn(disk, "No space left on device", "compile", "step", "room", "save", "seal", "row")


def test_a_quota_that_is_used_up_at_each_moment_in_turn(quota):
    filled_in_turn(quota, "Disk quota exceeded", "step", "save", "row")


def test_a_root_that_is_read_only_is_read(disk):
    write_experiment(disk.folder / "study", ONE)
    assert disk.called("mount", "-o", "remount,ro", HERE)[0] == 0
    base = str(Path(__file__).parents[2] / "configs/base.py")
    for verb in (
        ("run", "study"),
        ("train", base, "--config.data.task=noise", "--config.data.length=32", "--config.evaluate.prefix=16"),
        ("report", "study"),
        ("collect", "study", "--unfinished"),
    ):
        code, out, said = disk.encdec(*verb)
        assert (code, said.count("\n")) == (2, 1), (verb, out, said)
        assert "Read-only file system" in said, verb
    for verb in ("status", "plan"):
        code, out, said = disk.encdec(verb, "study")
        assert (code, said) == (0, ""), verb
        assert "1 pending" in out or verb == "plan"


def test_a_root_of_another_users_is_one_line_and_a_run_of_theirs_is_left_to_them(disk, users):
    me, _ = users
    write_experiment(disk.folder / "study", SWEEP.replace("(8, 16)", "(8,)"))
    (disk.folder / "runs").mkdir(mode=0o755)
    code, _, said = disk.encdec("run", "study", user=me)
    assert (code, said) == (2, f"encdec: can't write {HERE}/runs/study/.writable: Permission denied\n")
    assert disk.encdec("status", "study", user=me)[0] == 0
    (disk.folder / "runs").chmod(0o777)
    _, planned, _ = disk.encdec("status", "study", "--json", user=me)
    identity, other = (line.split('"')[3] for line in planned.splitlines() if '"run_id"' in line)
    (disk.folder / "runs/study" / identity).mkdir(parents=True, mode=0o755)
    (disk.folder / "runs/study").chmod(0o777)
    code, _, said = disk.encdec("run", "study", "-j", "1", user=me)
    assert code == 1, said
    assert "Traceback" not in said
    assert f"can't claim a run in {HERE}/runs/study/{identity}: Permission denied" in said
    assert {row["run_id"]: row["status"] for row in disk.results("study").to_dicts()} == {other: "done"}


def test_two_users_do_the_runs_of_one_experiment_once(disk, users):
    """Folders are their group's. One is killed at its first run, and the other does that too."""
    for name in ("whole", "study"):
        write_experiment(disk.folder / name, SWEEP)
    (disk.folder / "runs").mkdir()
    shutil.chown(disk.folder / "runs", group=GROUP)
    (disk.folder / "runs").chmod(0o2775)
    run = [sys.executable, "-m", "encdec_jax", "run"]
    code, _, said = disk.called(*run, "whole", "-j", "1", user=users[0])
    assert code == 0, said
    both = [disk.start(*run, "study", "-j", "1", user=user) for user in users]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    whole, found = (disk.results(name).drop(CLOCKS) for name in ("whole", "study"))
    assert found["status"].to_list() == ["done"] * 4
    assert found.equals(whole)

"""`encdec doctor`: whether the processes of a job see what they should, before anything is spent on it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from encdec_jax.errors import UserError
from encdec_jax.files import atomic_write, bucket_url, cache_root, runs_root
from encdec_jax.submit import jobset, slurm
from encdec_jax.submit.dispatch import defaults
from encdec_jax.submit.footprint import footprint
from encdec_jax.sweep.replica import prove
from encdec_jax.text import amount, size
from encdec_jax.train.objects import holding

SEEN = 60.0  # seconds after which a file must be seen by all: NFS may take as many
SKEW = 5.0  # seconds between clocks that are worth a word
_BYTES = {"cpu": 1 << 22, "gpu": 1 << 28, "tpu": 1 << 28}  # of the array that is summed, on each device
_FACTS = 4000  # bytes of what a process tells the others


def doctor() -> int:
    """Look at this process and those of its job, and print what the first of them finds.

    Returns:
      0, the exit code.

    Raises:
      UserError: the reason why no run would do well here: folders, other processes, devices, code or a sum.
    """
    root = runs_root()
    store = holding(root)
    if store is not None:
        prove(store)
    _check_folder(root)
    from encdec_jax.train.hosts import first, join, together

    join()
    with together():
        every = _gathered_facts()
    say = print if first() else _silent
    for place, facts in enumerate(every):
        devices = f"{facts['devices']} of {facts['kind']}"
        memory = f", {size(facts['memory'])} each" if facts["memory"] else ""
        say(f"process {place}: {facts['host']}, {facts['cpus']} CPUs, devices: {devices}{memory}")
    for what in ("code", "versions", "kind", "devices"):
        _check_same(what, [facts[what] for facts in every])
    say(f"code {every[0]['code']}, " + ", ".join(f"{name} {v}" for name, v in every[0]["versions"].items()))
    clocks = [facts["time"] for facts in every]
    skew = max(clocks) - min(clocks)
    say(f"clocks: {skew:.1f} s apart" + (f" (more than {SKEW:g}: set them)" if skew > SKEW else ""))
    free = size(shutil.disk_usage(root).free)
    if store is None:
        with together():
            _check_shared(root, first())
        say(f"runs: {root.absolute()}: shared by {len(every)} processes, atomic, {free} free")
    else:
        say(f"runs: {store.url}: its conditional writes hold; copies go to {root}, {free} free")
    say(f"cache: {bucket_url('ENCDEC_CACHE') or cache_root()}")
    say(_sum_over_devices())
    return 0


def submit_doctor(to: str, devices: int, apply: bool, **options: Any) -> int:
    """Submit the doctor as a job of a mesh of `devices`, or print what would be submitted.

    Returns:
      0, the exit code.

    Raises:
      UserError: an option is not accepted, or the cluster refuses.
    """
    command = ["-m", "encdec_jax", "doctor"]
    if to == "k8s":
        site = defaults("k8s", options)
        name = f"encdec-doctor-{uuid.uuid4().hex[:6]}"
        text = jobset.text([jobset.Manifest([], jobset.jobset(name, ["python", *command], devices, site))])
        if not apply:
            print(text, end="")
            return 0
        slurm.called(["kubectl", "apply", "-f", "-"], text)
        print(f"submitted: k8s {name}; kubectl logs --selector jobset.sigs.k8s.io/jobset-name={name}")
        return 0
    site = defaults("slurm", options)
    part = footprint(devices, site.gpus, site.nodes)
    log = runs_root() / "doctor" / "slurm-%j.log"
    line = shlex.join(["exec", *slurm.step(part, site), sys.executable, *command])
    text = slurm.script("encdec:doctor", log, part, site, [], [line])
    if to == "print":
        print(text, end="")
        return 0
    log.parent.mkdir(parents=True, exist_ok=True)
    job = slurm.called(["sbatch", "--parsable"], text).strip().partition(";")[0]
    print(f"submitted: slurm {job}; it says what it finds in {str(log).replace('%j', job)}")
    return 0


def _silent(text: str) -> None:
    pass


def _check_folder(root: Path) -> None:
    """A folder must be writable, and rename over what is there."""
    probe = root / f".doctor-{uuid.uuid4().hex}"
    try:
        atomic_write(probe, "first")
        atomic_write(probe, "second")
        if probe.read_text() != "second":
            raise UserError(f"{root} is not accepted: what is written anew there reads as it was before")
    finally:
        with suppress(OSError):
            probe.unlink()


def _gathered_facts() -> list[dict[str, Any]]:
    """What each process sees; taken at one time, as near as a collective is."""
    import jax

    from encdec_jax.train.hosts import every_text
    from encdec_jax.train.versions import code, versions

    every_text("", 1)  # the clocks are read when all are here
    device = jax.local_devices()[0]
    facts = {
        "time": time.time(),
        "host": socket.gethostname(),
        "cpus": len(os.sched_getaffinity(0)),
        "devices": jax.local_device_count(),
        "kind": device.device_kind,
        "memory": (device.memory_stats() or {}).get("bytes_limit"),
        "code": code(),
        "versions": versions(),
    }
    return [json.loads(text) for text in every_text(json.dumps(facts), _FACTS)]


def _check_same(what: str, found: Sequence[Any]) -> None:
    for place, one in enumerate(found):
        if one != found[0]:
            raise UserError(f"{what} differs between processes 0 and {place} of this job: {found[0]}, and {one}")


def _check_shared(root: Path, first: bool) -> None:
    """All must see what one writes, and of all who create one file, one may succeed."""
    from encdec_jax.train.hosts import every_text

    name = every_text(uuid.uuid4().hex, 40)[0]
    mark, prize = root / f".doctor-{name}", root / f".doctor-{name}-prize"
    if first:
        atomic_write(mark, name)
    every_text("", 1)
    deadline = time.monotonic() + SEEN
    while not (seen := mark.exists()) and time.monotonic() < deadline:
        with suppress(OSError):
            os.listdir(root)  # makes NFS look again
        time.sleep(0.5)
    won = False
    with suppress(FileExistsError):
        os.close(os.open(prize, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        won = True
    told = every_text(f"{seen:d}{won:d}", 2)
    for path in (mark, prize) if first else ():
        path.unlink(missing_ok=True)
    for place, one in enumerate(told):
        if one[0] == "0":
            raise UserError(f"{root} is not accepted: process {place} does not see what process 0 wrote there")
    winners = sum(int(one[1]) for one in told)
    if winners != 1:
        raise UserError(
            f"{root} is not accepted: {winners} of {len(told)} processes could create one and the same file"
        )


def _sum_over_devices() -> str:
    """Sum an array over all devices of the job, and say how fast that was.

    Raises:
      UserError: the sum is wrong.
    """
    import jax
    import numpy as np
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    n = jax.device_count()
    mesh = jax.make_mesh((n,), ("all",), axis_types=(AxisType.Auto,))
    parts, whole = NamedSharding(mesh, PartitionSpec("all")), NamedSharding(mesh, PartitionSpec())
    length = _BYTES.get(jax.default_backend(), 1 << 22) // 4
    value = np.arange(length, dtype=np.float32) % 128
    given = jax.make_array_from_callback((n, length), parts, lambda index: value[None])
    add = jax.jit(lambda x: x.sum(0), out_shardings=whole)
    found = np.asarray(add(given).addressable_shards[0].data)
    if not np.array_equal(found, n * value):
        raise UserError(f"the sum over {n} devices is wrong, in {int((found != n * value).sum())} of {length} numbers")
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(add(given))
        seconds.append(time.perf_counter() - start)
    rate = 2 * (n - 1) / n * value.nbytes / min(seconds)
    return f"a sum of {size(value.nbytes)} over {n} devices is right" + (
        f", {amount(rate)}B/s a device" if n > 1 else ""
    )

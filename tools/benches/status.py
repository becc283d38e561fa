"""(h) `encdec status` and `encdec plan` of 10,000 runs, on a disk and in a bucket of moto's S3 server.

Half of the runs are done, 100 are at work, the rest has not begun; they differ in architecture, width, learning rate
and seed. Seconds are CPU time of the verb's process, not of moto's: others may use the machine. Nobody has looked at a
bucket only where no worker of this code ran there: workers look, and keep summaries together for those who come after.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from encdec_jax.script import execute
from encdec_jax.sweep.holder import Holder
from encdec_jax.sweep.identity import run_id

RUNS, DONE, AT_WORK = 10_000, 5_000, 100
SWEEP = '''"""10,000 runs of nothing."""

from dataclasses import replace

from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.model.presets import preset
from encdec_jax.train.config import OptimConfig, TrainConfig

QUESTION, BASELINE, CONFOUNDERS, PREDICTIONS = "?", "causal_lm", {}, []


def runs():
    for arch in ("causal_lm", "enc_dec"):
        for d_model in range(64, 1664, 64):
            model = preset(arch, d_model=d_model, dec_layers=4, vocab_size=259)
            for lr in range(1, 11):
                for seed in range(20):
                    yield RunConfig(
                        model=model,
                        data=DataConfig(length=256),
                        objective=ObjectiveConfig("prefix_lm"),
                        optim=OptimConfig(lr=lr * 1e-3),
                        train=TrainConfig(tokens=10_000_000, batch_size=8, seed=seed),
                    )
'''
SUMMARY = {
    "status": "done",
    "tokens_seen": 10_000_000,
    "updates": 4883,
    "suffix_bits_per_byte": 1.5,
    "wall_s": 1.0,
    "step_s": 1.0,
    "versions": {},
}
BUCKET = "bench"


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "pyproject.toml").touch()
        (folder / "study").mkdir()
        (folder / "study" / "sweep.py").write_text(SWEEP)
        here = {**os.environ, "XDG_CACHE_HOME": str(folder / "home"), "ENCDEC_CACHE": str(folder / "cache")}
        encdec(folder, here, "prepare", "--task", "bible_en")
        (manifest,) = (folder / "cache").rglob("manifest.json")
        files = dict(left(execute(folder / "study" / "sweep.py"), json.loads(manifest.read_bytes())["digest"]))
        runs = folder / "runs"
        for name, text in files.items():
            path = runs / "study" / name.replace("lease.json", "leases/1.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        timed(folder, {**here, "ENCDEC_RUNS": str(runs)}, "on a disk", {"status": 5.0, "plan": 10.0})
        if find_spec("moto") is None or find_spec("obstore") is None:
            print("(h) not in a bucket: moto or obstore is not installed")
            return
        with bucket({f"state/{name}": text for name, text in files.items()}) as endpoint:
            keys = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
            there = {**here, **keys, "AWS_REGION": "us-east-1", "ENCDEC_RUNS": f"s3://{BUCKET}/runs"}
            timed(folder, there, "in a bucket that nobody has looked at", {"status": 10.0})
            other = {**there, "XDG_CACHE_HOME": str(folder / "other")}
            timed(folder, other, "in a bucket, first look of another machine", {"status": 10.0})
            timed(folder, other, "in a bucket, its second look", {"status": 10.0})


def left(sweep: ModuleType, digest: str) -> Iterator[tuple[str, str]]:
    """Files that the runs left, by their names."""
    holder = asdict(Holder("elsewhere", 1, 1, ""))
    lease = {"number": 1, "holder": holder, "beat": 9, "released": False, "before": [], "claim": "x", "seen": {}}
    for place, run in enumerate(sweep.runs()):
        if place >= DONE + AT_WORK:
            return
        if place < DONE:
            yield f"{run_id(run)}/summary.json", json.dumps({**SUMMARY, "cache_digest": digest})
        else:
            yield f"{run_id(run)}/lease.json", json.dumps(lease)


@contextmanager
def bucket(files: Mapping[str, str]) -> Iterator[str]:
    """The address of a server that has the files below the study's runs; in a process of its own."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, BUCKET],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a line a request
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        server.stdin.write(json.dumps({f"runs/study/{name}": text for name, text in files.items()}) + "\n")
        server.stdin.flush()
        yield server.stdout.readline().strip()
    finally:
        server.stdin.close()
        server.wait()


SERVER = """
import json, sys
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

store = s3_backends["123456789012"]["aws"]
store.create_bucket(sys.argv[1], "us-east-1")
for key, text in json.loads(sys.stdin.readline()).items():
    store.put_object(sys.argv[1], key, text.encode())
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print("http://{}:{}".format(*server.get_host_and_port()), flush=True)
sys.stdin.read()
server.stop()
"""


def timed(folder: Path, environment: Mapping[str, str], where: str, aims: Mapping[str, float]) -> None:
    for verb, aim in aims.items():
        before = os.times()
        encdec(folder, environment, verb, "study")
        after = os.times()
        user = after.children_user - before.children_user
        system = after.children_system - before.children_system
        print(
            f"(h) encdec {verb} of {RUNS:,} runs {where}: {user:.1f} s of CPU, {system:.1f} s in the system;"
            f" {after.elapsed - before.elapsed:.1f} s of wall; aim: under {aim:g} s"
        )


def encdec(folder: Path, environment: Mapping[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "encdec_jax", *arguments]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()

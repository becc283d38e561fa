from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import replace
from itertools import product
from math import prod

import numpy as np
import pytest
from tiny import environment, tiny_run, write_noise

from encdec_jax.aot.topology import devices, topology
from encdec_jax.compute.ledger import count
from encdec_jax.config import to_dict
from encdec_jax.errors import UserError
from encdec_jax.files import read_json, write_json
from encdec_jax.train.config import MeshConfig
from encdec_jax.train.hosts import check_batch, join
from encdec_jax.train.job import VARIABLES
from encdec_jax.train.loop import train
from encdec_jax.train.restore import restore
from encdec_jax.train.sharding import make_mesh, rows_by_process

ROWS = 8
# The first batch as every mesh holds it, over whatever processes there are, and on some meshes an update; process 0
# prints what came of them.
PROGRAM = """
import json, sys
import jax
rank, processes, port, meshes = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
if processes > 1:
    jax.distributed.initialize(f"127.0.0.1:{port}", processes, rank)
import hashlib
from dataclasses import replace
import numpy as np
from tiny import tiny_run
from encdec_jax.data.batches import Batches, combine
from encdec_jax.data.cache import TokenCache
from encdec_jax.model.presets import preset
from encdec_jax.train.config import MeshConfig
from encdec_jax.train.hosts import check_batch, summed
from encdec_jax.train.schedule import hyper
from encdec_jax.train.sharding import put_rows, replicated, rows_sharding
from encdec_jax.train.trainer import Trainer
base = replace(
    tiny_run("enc_dec", batch_size=8, steps_per_call=1),
    model=preset("enc_dec", d_model=16, dec_layers=1, head_dim=2, vocab_size=264),
)
for mesh, update in meshes:
    run = replace(base, mesh=MeshConfig(*mesh))
    trainer = Trainer(run)
    cache = TokenCache.open(run.data.task, run.data.vocab)
    batches = Batches(cache, run, trainer.here)
    check_batch(batches.digests(0), batches.here, 8)
    placed = put_rows(batches(0), rows_sharding(trainer.mesh), 8, trainer.here)
    whole = jax.jit(lambda batch: batch, out_shardings=replicated(trainer.mesh))(placed)
    held = hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(whole))).hexdigest()
    hashed = summed(combine(batches.digests(0)[trainer.answers_for]))
    found = [held, hashed]
    if update:
        _, seen = trainer(trainer.init(), batches.chunk(0, 1), hyper(run.optim, 60, run.train.seed), 1)
        found += [float(seen.loss[0]), float(seen.loss_tokens[0])]
    if rank == 0:
        print("found", json.dumps([mesh, found]), flush=True)
"""


def shapes(size: int) -> list[tuple[int, ...]]:
    """Every mesh of `size` devices."""
    return [shape for shape in product(range(1, size + 1), repeat=4) if prod(shape) == size]


def batches(processes: int, each: int, meshes: list[tuple[tuple[int, ...], bool]]) -> dict[tuple[int, ...], list]:
    """What each mesh holds of the first batch, over `processes` of `each` devices, and what an update gives there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    flags = f"--xla_force_host_platform_device_count={each} --xla_backend_optimization_level=0"
    env = environment(XLA_FLAGS=flags)
    arguments = [str(processes), port, json.dumps(meshes)]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(rank), *arguments], env=env, stdout=subprocess.PIPE, text=True
        )
        for rank in range(processes)
    ]
    said = [process.communicate(timeout=600)[0] for process in started]
    assert [process.returncode for process in started] == [0] * processes
    lines = [line.removeprefix("found") for line in said[0].splitlines() if line.startswith("found")]
    return {tuple(mesh): found for mesh, found in map(json.loads, lines)}


# What a process asks for while its device is at work, in twenty rounds; in each another process has more to do.
OVERTAKING = """
import sys
import jax
rank, port = int(sys.argv[1]), sys.argv[2]
jax.distributed.initialize(f"127.0.0.1:{port}", 2, rank)
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from encdec_jax.train.hosts import Loose
from encdec_jax.train.sharding import in_turn
mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)

def busy(turns):
    one = jax.lax.fori_loop(0, turns[0], lambda _, m: jnp.tanh(m @ m), jnp.eye(64))
    return jax.lax.psum(one * 0 + turns[0], "x")

work = jax.jit(jax.shard_map(busy, mesh=mesh, in_specs=P("x"), out_specs=P(), check_vma=False))
loose, found = Loose(), []
for round in range(20):
    turns = 20_000 if round % 2 == rank else 1
    given = jax.make_array_from_process_local_data(NamedSharding(mesh, P("x")), np.array([turns], np.int32), (2,))
    done = in_turn(work(given))
    assert loose.ends(False) is False
    found.append(float(np.asarray(done)[0, 0]))
assert found == [20_001.0] * 20, found
"""


@pytest.mark.slow
def test_what_processes_compute_on_cpus_does_not_overtake():
    """Else messages of one are taken for another's: processes crashed over unequal sizes, once in many runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-c", OVERTAKING]
    env = environment(XLA_FLAGS="--xla_force_host_platform_device_count=2")
    pair = [subprocess.Popen([*command, str(rank), port], env=env) for rank in (0, 1)]
    assert [process.wait(250) for process in pair] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("size", [4, 8])
def test_on_every_mesh_of_several_processes_the_batch_is_that_of_one(folders, size):
    """Also where an axis that does not divide rows (tensor, sequence) runs across processes."""
    write_noise()
    (alone,) = batches(1, 1, [((1, 1, 1, 1), True)]).values()
    for processes in (2, 4):
        # tensor or sequence across all processes, and across some of them
        some = [(2, 1, size // 2, 1)]
        updated = [(1, 1, size, 1), (1, 1, 1, size), *some] if processes == 2 else [*some, (2, 1, 1, size // 2)]
        found = batches(processes, size // processes, [(mesh, mesh in updated) for mesh in shapes(size)])
        assert set(found) == set(shapes(size))
        for mesh, (held, hashed, *update) in found.items():
            assert [held, hashed] == alone[:2], mesh
            assert bool(update) == (mesh in updated)
            if update:
                assert update == pytest.approx(alone[2:], rel=1e-6), mesh


@pytest.mark.parametrize("name", ["v5e:16x16", "v5p:8x8x8"])
def test_every_host_of_a_pod_loads_what_its_devices_address(name):
    """By libtpu's assignment of chips to hosts."""
    pytest.importorskip("libtpu")
    found = devices(topology(name))
    for mesh in ((16, 4, len(found) // 64), (4, 4, len(found) // 16), (len(found), 1, 1), (1, 1, len(found))):
        rows = 2 * mesh[0] * mesh[1]
        made = make_mesh(MeshConfig(*mesh), found)
        held = rows_by_process(made, rows)
        assert set(held) == {device.process_index for device in found}
        assert set(np.concatenate(list(held.values()))) == set(range(rows))
        for at, device in np.ndenumerate(made.devices):
            shard = at[0] * mesh[1] + at[1]
            assert set(held[device.process_index]) >= {2 * shard, 2 * shard + 1}


def test_rows_that_hosts_load_twice_must_agree(monkeypatch):
    from encdec_jax.train import hosts

    digests = np.arange(4 * 32, dtype=np.uint8).reshape(4, 32)

    def gathered(*others):
        def gather(value):
            return np.stack([value, *others])

        return gather

    def filled(here, digests):
        value = np.zeros((4, 33), np.uint8)
        value[here, :32], value[here, 32] = digests, 1
        return value

    monkeypatch.setattr(hosts, "_gathered", gathered(filled([1, 2, 3], digests[1:])))
    check_batch(digests[:2], np.array([0, 1]), 4)
    monkeypatch.setattr(hosts, "_gathered", gathered(filled([1, 2, 3], digests[1:] + 1)))
    with pytest.raises(UserError, match="window 1 of the first batch differs between processes 0 and 1"):
        check_batch(digests[:2], np.array([0, 1]), 4)
    monkeypatch.setattr(hosts, "_gathered", gathered(filled([1], digests[1:2])))
    with pytest.raises(UserError, match="window 2 of the first batch was loaded by no process"):
        check_batch(digests[:2], np.array([0, 1]), 4)


def job(folder, run, before: tuple[str, str] = ("", ""), **more: str) -> list[tuple[int, str, str]]:
    """(exit code, output, errors) of `encdec train` on two processes of one device, each behind its own statements."""
    write_json(folder / "run.json", to_dict(run))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["train", str(folder / "run.json"), "--folder", str(folder / "run")]
    pair = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import sys; {first}\nfrom encdec_jax.cli.main import main; sys.exit(main({arguments}))",
            ],
            env=environment(
                JAX_COORDINATOR_ADDRESS=f"127.0.0.1:{port}", JAX_NUM_PROCESSES="2", JAX_PROCESS_ID=str(rank), **more
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, first in enumerate(before)
    ]
    said = [process.communicate(timeout=300) for process in pair]
    return [(process.returncode, *texts) for process, texts in zip(pair, said, strict=True)]


PAIR = replace(tiny_run(updates=20, checkpoint_every=5 * 128), mesh=MeshConfig(data=2))
ROOM = 10 * count(PAIR).params.total  # bytes: more than one process's half of a checkpoint, and less than all of it


@pytest.mark.slow
def test_a_run_of_several_hosts_is_one_command_on_each(folders):
    write_noise()
    (code, out, err), (other, silent, _) = job(folders, PAIR)
    assert (code, other) == (0, 0), err
    assert "done: 2,560 tokens in 20 updates" in out
    assert "done:" not in silent
    assert json.loads((folders / "run/summary.json").read_text())["updates"] == 20
    assert len(list((folders / "run/leases").iterdir())) == 1  # one claim for all
    again = job(folders, PAIR)
    assert [one[0] for one in again] == [0, 0]
    assert "this run had ended already" in again[0][2]


@pytest.mark.slow
def test_each_host_seals_what_it_wrote(folders):
    """Process 0 alone hashed all of it. Where one dies before its seal, the checkpoint is offered to nobody."""
    write_noise()
    sharded = replace(PAIR, mesh=MeshConfig(data=1, fsdp=2))
    before = "import os, pathlib, time; from encdec_jax.train import checkpoint; write = checkpoint.write_json\n"
    sealed = before + "checkpoint.write_json = lambda *given: (write(*given), os._exit(9))"
    dies = f"""{before}
def wait(*_):
    while not list(pathlib.Path({str(folders / "run/checkpoints")!r}).glob("manifest-*-0-of-2.json")):
        time.sleep(0.01)
    os._exit(9)
checkpoint._hashes = wait"""
    assert all(code != 0 for code, _, _ in job(folders, sharded, (sealed, dies)))
    folder = folders / "run/checkpoints"
    assert (folder / "lease1_5/_CHECKPOINT_METADATA").exists()
    assert [path.name for path in folder.glob("manifest-*")] == ["manifest-lease1_5-0-of-2.json"]
    with pytest.raises(UserError, match="holds no whole checkpoint"):
        restore(folders / "run")
    first, other = job(folders, sharded)
    assert (first[0], other[0]) == (0, 0), first[2]
    assert "was never sealed" in first[2]
    sealed = [read_json(folder / f"manifest-lease2_20-{rank}-of-2.json") for rank in (0, 1)]
    names = [set(one) for one in sealed]
    assert not names[0] & names[1]
    files = (path for path in (folder / "lease2_20").rglob("*") if path.is_file())
    assert names[0] | names[1] == {str(path.relative_to(folder / "lease2_20")) for path in files}
    for rank in (0, 1):
        assert any(f"ocdbt.process_{rank}/d/" in name for name in names[rank])
    run, _ = restore(folders / "run")  # on one process, which checks both seals
    assert run == sharded
    array = max(
        (path for path in folder.glob("lease2_20/**/ocdbt.process_1/d/*")), key=lambda path: path.stat().st_size
    )
    array.write_bytes(array.read_bytes()[::-1])
    (folders / "run/summary.json").unlink()
    again = job(folders, sharded)
    assert [code for code, _, _ in again] == [0, 0]
    assert "checkpoint lease2_20 in" in again[0][2]
    assert "the run goes on from update 15" in again[0][2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "before", "message"),
    [
        (1, "import os; os.environ['ENCDEC_CACHE'] = '/nowhere'", "data.task = 'noise' has no tokens"),
        (
            1,
            f"import shutil; shutil.disk_usage = lambda path: type('Usage', (), {{'free': {ROOM}}})",
            f"the disk has {ROOM:,} bytes left",
        ),
        (
            1,
            "from encdec_jax.errors import UserError; from encdec_jax.train import loop\n"
            "def gone(*_): raise UserError('the split is gone')\n"
            "loop.dropped = loop.further_sets = gone",
            "the split is gone",
        ),
        (
            0,
            "from encdec_jax.errors import UserError; from encdec_jax.train.metrics import MetricsLog\n"
            "def full(*_, **__): raise UserError('no space for metrics')\n"
            "MetricsLog.write = full",
            "no space for metrics",
        ),
    ],
    ids=["tokens", "checkpoint", "scores", "metrics"],
)
def test_what_one_host_is_refused_ends_all(folders, place, before, message):
    write_noise()
    found = job(folders, PAIR, tuple(before if rank == place else "" for rank in (0, 1)))
    assert [code for code, _, _ in found] == [2, 2]
    own, other = found[place][2], found[1 - place][2]
    assert f"process {place} of this run ended" not in own
    assert message in own
    (line,) = (line for line in other.splitlines() if line.startswith("encdec: "))
    assert line.startswith(f"encdec: process {place} of this run ended: ")
    assert message in line


@pytest.mark.slow
def test_a_run_to_begin_at_that_one_host_does_not_see_ends_all(folders):
    write_noise()
    train(tiny_run(updates=5), folders / "runs/begun")
    begins = replace(PAIR, train=replace(PAIR.train, init_from="begun"))
    unseen = (
        "from encdec_jax.errors import UserError; from encdec_jax.train import pretrained\n"
        "def unseen(given): raise UserError(f'{given} is not there')\n"
        "pretrained._source = unseen"
    )
    found = job(folders, begins, ("", unseen))
    assert [code for code, _, _ in found] == [2, 2]
    assert "encdec: begun is not there" in found[1][2]
    assert "encdec: process 1 of this run ended: begun is not there" in found[0][2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "what"),
    [
        ("import encdec_jax.train.loop as loop; loop.to_dict = lambda run: {'optim.lr': 0.5}", "the configuration"),
        ("import encdec_jax.train.loop as loop; loop.code = lambda: 'other'", "the code"),
    ],
)
def test_hosts_that_were_given_other_things_are_refused(folders, before, what):
    """They trained one model by two recipes, and said done."""
    write_noise()
    found = job(folders, PAIR, ("", before))
    assert [code for code, _, _ in found] == [2, 2]
    for _, _, errors in found:
        assert f"{what} differs between processes 0 and 1 of this run" in errors
    assert not (folders / "run/summary.json").exists()


@pytest.mark.slow
def test_a_barrier_that_hangs_ends_with_the_stacks(folders):
    """Process 1 never comes; process 0 says where it waited."""
    write_noise()
    shorter = "import encdec_jax.train.hosts as hosts; hosts.BARRIER = 3"
    absent = "import time, encdec_jax.train.hosts as hosts; hosts.any_host = lambda told: time.sleep(60)"
    found = job(folders, PAIR, (shorter, absent))
    assert found[0][0] == 1
    assert "Timeout (0:00:03)!" in found[0][2]
    assert "in _gathered" in found[0][2]


@pytest.mark.parametrize(
    "given", [{"JAX_NUM_PROCESSES": "2"}, {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_PROCESS_ID": "x"}]
)
def test_a_job_that_is_told_of_by_halves_is_refused(monkeypatch, given):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="a job of several processes needs all three"):
        join()

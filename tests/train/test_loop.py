from __future__ import annotations

import itertools
import json
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from event_files import curve
from tiny import environment, tiny_run, write_noise

from encdec_jax.compute.ledger import count
from encdec_jax.config import to_dict
from encdec_jax.data.batches import Batches
from encdec_jax.data.cache import write_cache
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.errors import UserError
from encdec_jax.files import write_json
from encdec_jax.sweep.identity import run_id
from encdec_jax.sweep.store import run_state
from encdec_jax.train.checkpoint import Checkpoints
from encdec_jax.train.config import MeshConfig
from encdec_jax.train.fence import Fence
from encdec_jax.train.loop import train
from encdec_jax.train.metrics import MetricsLog
from encdec_jax.train.restore import restore
from encdec_jax.train.summary import read_summary
from encdec_jax.train.trainer import Trainer

DECIDED = [  # what of a summary a clock does not enter
    "status",
    "updates",
    "tokens_seen",
    "loss_tokens",
    "train_loss",
    "suffix_bits_per_byte",
    "suffix_bits_se",
    "data_hash",
    "cache_digest",
]


@pytest.fixture
def data(folders):
    write_noise()
    return folders


def outcome(folder: Path, run) -> tuple[dict, bytes, bytes, list[np.ndarray]]:
    """All that must not depend on kills: summary, metrics, scores and final parameters."""
    summary = json.loads((folder / "summary.json").read_text())
    step, state, _ = Checkpoints(folder / "checkpoints").restore_latest(Trainer(run).abstract)
    assert step == summary["updates"]
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
    scores = (folder / "suffix_bits.npy").read_bytes()
    return {name: summary[name] for name in DECIDED}, (folder / "metrics.jsonl").read_bytes(), scores, leaves


def assert_same(one, other) -> None:
    assert one[:3] == other[:3]
    for a, b in zip(one[3], other[3], strict=True):
        np.testing.assert_array_equal(a, b)


def start(data: Path, run, folder: Path, before: str = "", flags: str = "", **more: str) -> subprocess.Popen[bytes]:
    """Training in a process of its own, after the statements `before`."""
    (data / "run.json").write_text(json.dumps(to_dict(run)))
    program = (
        "import json, os, sys; from pathlib import Path; from encdec_jax.config import from_dict;"
        f"from encdec_jax.train import loop; {before}"
        "loop.train(from_dict(json.loads(Path(sys.argv[1]).read_text())), Path(sys.argv[2]))"
    )
    env = environment(JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0", XLA_FLAGS=flags, **more)
    return subprocess.Popen([sys.executable, "-c", program, data / "run.json", folder], env=env)


def test_a_run_leaves_its_row(data):
    run = tiny_run(updates=12)
    seen = []
    summary = train(run, data / "run", progress=seen.append)
    assert summary == json.loads((data / "run/summary.json").read_text())
    assert json.loads((data / "run/config.json").read_text()) == json.loads(json.dumps(to_dict(run)))
    assert (summary["status"], summary["updates"], summary["tokens_seen"]) == ("done", 12, 12 * 128)
    assert summary["loss_tokens"] == 12 * 128
    assert 3 < summary["suffix_bits_per_byte"] < 9
    assert [(one.updates, one.total) for one in seen] == [(0, 12), (5, 12), (10, 12), (12, 12)]
    assert (seen[-1].loss, seen[-1].tokens_per_s) == (summary["train_loss"], summary["tokens_per_s"])
    steps = [json.loads(line)["step"] for line in (data / "run/metrics.jsonl").read_text().splitlines()]
    assert steps == [5, 10, 12]
    assert list((data / "run/tensorboard").glob("events*"))


@pytest.mark.parametrize("arch", ["enc_dec", "prefix_lm"])
def test_a_run_is_scored_under_every_prefix_and_on_every_split(data, arch):
    run = tiny_run(arch, updates=5)
    one, two = (replace(run, evaluate=replace(run.evaluate, **more)) for more in ({}, {"prefixes": (4, 1)}))
    alone, further = train(one, data / "one"), train(two, data / "two")
    assert alone["held_out"] == {}
    assert further["suffix_bits_per_byte"] == alone["suffix_bits_per_byte"]
    assert list(further["held_out"]) == ["validation/4", "validation/1"]
    assert all(3 < rate < 9 for rate in further["held_out"].values())
    # Noise of few letters is about as hard in each set, and so is what the choice of rows leaves open.
    errors = further["held_out_se"]
    assert errors.keys() == further["held_out"].keys()
    assert list(errors.values()) == pytest.approx([alone["suffix_bits_se"]] * 2, rel=0.3)
    assert read_summary(data / "two" / "summary.json") == further


def test_a_done_run_is_not_done_again(data):
    train(tiny_run(updates=5), data / "run")
    before = (data / "run/summary.json").stat().st_mtime_ns
    train(tiny_run(updates=5), data / "run")
    assert (data / "run/summary.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("arch", ["causal_lm", "enc_dec"])
def test_stopped_and_resumed_is_uninterrupted(data, arch):
    run = tiny_run(arch)
    train(run, data / "whole")
    calls = iter(range(100))
    while train(run, data / "parts", stop=lambda: next(calls) % 4 == 3) is None:
        assert not (data / "parts/summary.json").exists()
    assert next(calls) > 12
    assert_same(outcome(data / "whole", run), outcome(data / "parts", run))


def test_resumed_from_a_step_before_the_last_line_cuts_the_lines_beyond(data):
    """As after a kill between two checkpoints: metrics are ahead of the state that is restored."""
    run = tiny_run()
    assert start(data, run, data / "whole").wait() == 0
    dies = "loop.MetricsLog.write_timing = lambda *_, step, **__: os._exit(9) if step == 35 else None;"
    assert start(data, run, data / "parts", dies).wait() == 9
    lines = (data / "parts/metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 35
    with (data / "parts/metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')
    assert start(data, run, data / "parts").wait() == 0
    assert_same(outcome(data / "whole", run), outcome(data / "parts", run))


def test_a_damaged_checkpoint_is_passed_over(data):
    run = tiny_run(updates=60)
    train(run, data / "whole")
    calls = iter(range(100))
    train(run, data / "parts", stop=lambda: next(calls) == 9)
    newest = max((data / "parts/checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    assert newest.name == "45"
    array = max(newest.rglob("d/*"), key=lambda path: path.stat().st_size)
    raw = bytearray(array.read_bytes())
    raw[len(raw) // 2] ^= 1
    array.write_bytes(raw)
    (data / "parts/checkpoints/50").mkdir()  # what a crash may leave of a save
    assert train(run, data / "parts") is not None
    assert (data / "parts/checkpoints/damaged-45").exists()
    assert_same(outcome(data / "whole", run), outcome(data / "parts", run))


def test_one_run_leaves_the_checkpoints_that_are_asked_for(data):
    """At stamps of tokens and of FLOPs, and at multiples; as many as if it had never been stopped."""
    run = tiny_run(updates=60)
    stamp = count(run).train_flops.mask * 32
    kept = replace(run, train=replace(run.train, keep=1, keep_every=25 * 128, keep_at=f"{12 * 128},{stamp}flops"))
    assert run_id(kept) == run_id(run)
    train(kept, data / "whole")
    calls = iter(range(100))
    assert train(kept, data / "parts", stop=lambda: next(calls) == 8) is None
    train(kept, data / "parts")
    for name in ("whole", "parts"):
        found = {int(path.name) for path in (data / name / "checkpoints").iterdir() if path.name.isdigit()}
        assert found == {15, 25, 35, 50, 60}
    assert_same(outcome(data / "whole", kept), outcome(data / "parts", kept))
    start = dict(restore(data / "whole", 15)[1].flat_state())
    end = dict(restore(data / "whole")[1].flat_state())
    assert any(not np.array_equal(start[path], end[path]) for path in start)
    with pytest.raises(UserError, match=r"update = 20 is not accepted: .*: 15, 25, 35, 50, 60"):
        restore(data / "whole", 20)


@pytest.mark.parametrize(("text", "message"), [("a", "numbers above 0"), ("0", "numbers above 0"), ("1e9", "7,680")])
def test_marks_that_no_run_reaches_are_refused(data, text, message):
    run = tiny_run(updates=60)
    with pytest.raises(UserError, match=rf"train.keep_at = '{text}' is not accepted: .*{message}"):
        train(replace(run, train=replace(run.train, keep_at=text)), data / "run")


def test_a_checkpoint_behind_the_end_is_not_done(data):
    """A run of 20 updates took the 45 of another for its own, and said done."""
    calls = iter(range(100))
    train(tiny_run(updates=60), data / "run", stop=lambda: next(calls) == 9)
    (data / "run/config.json").unlink()
    with pytest.raises(UserError, match="holds a checkpoint behind 45 updates, of a run that ends with 20"):
        train(tiny_run(updates=20), data / "run")


def test_killed_between_a_save_and_its_seal(data):
    run = tiny_run(updates=30)
    train(run, data / "whole")
    dies = "from encdec_jax.train import checkpoint; checkpoint._hashes = lambda *_: os._exit(9);"
    assert start(data, run, data / "parts", dies).wait() == 9
    assert (data / "parts/checkpoints/20").exists()
    with pytest.raises(UserError, match="holds no whole checkpoint"):
        restore(data / "parts")
    train(run, data / "parts")
    assert_same(outcome(data / "whole", run), outcome(data / "parts", run))


def test_a_run_is_read_back_without_a_change_to_its_folder(data):
    """The newest checkpoint that is whole, where a later one is still being written."""
    run, folder = tiny_run("enc_dec"), data / "runs/one"
    train(run, folder)
    kept = outcome(folder, run)[3]
    (folder / "checkpoints/999").mkdir()
    before = sorted(folder.rglob("*"))
    read, params = restore(folder)
    assert read == run
    assert sorted(folder.rglob("*")) == before
    for ours, theirs in zip(jax.tree.leaves(params), kept[1:], strict=False):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(UserError, match=r"can't read .*config.json: No such file"):
        restore(data)
    write_json(data / "config.json", to_dict(run))
    with pytest.raises(UserError, match="holds no whole checkpoint"):
        restore(data)


def test_a_loss_that_is_not_finite_ends_the_run_as_a_row(data):
    run = tiny_run(lr=1e30)
    summary = train(run, data / "run")
    assert summary["status"] == "diverged"
    assert summary["suffix_bits_per_byte"] is None
    assert summary["updates"] < 60
    json.loads((data / "run/metrics.jsonl").read_text().splitlines()[-1])


def test_bad_input_is_refused_before_anything_is_spent(data):
    run = tiny_run()
    with pytest.raises(UserError, match=r"model\.vocab_size = 258 is not accepted: at least 259"):
        train(replace(run, model=replace(run.model, vocab_size=258)), data / "run")
    with pytest.raises(UserError, match=r"data\.task = 'absent' has no tokens"):
        train(replace(run, data=replace(run.data, task="absent")), data / "run")
    assert not (data / "run").exists()


class Lost(Exception): ...


def test_nothing_is_written_once_the_claim_is_lost(data):
    """At each check in turn: no line, score, summary or manifest behind it. Mirrors have files of their own, and so has
    what was about to take a file's place, by a random name that begins with a dot."""
    run, checks = tiny_run(updates=12), itertools.count()
    train(run, data / "whole", fence=Fence(1, lambda: next(checks)))
    total = next(checks)
    assert total > 8  # of what the run is, its lines, checkpoints, scores, summary

    def contents(folder: Path) -> dict[Path, bytes]:
        files = [*folder.glob("[!.]*.*"), *folder.glob("checkpoints/*.json")]
        return {path: path.read_bytes() for path in files}

    for left in range(total):
        folder, checks, found = data / f"lost-{left}", itertools.count(), {}

        def check(folder=folder, checks=checks, left=left, found=found) -> None:
            if next(checks) == left:
                found.update(contents(folder))
                raise Lost

        with pytest.raises(Lost):
            train(run, folder, fence=Fence(1, check))
        assert contents(folder) == found
        assert not (folder / "summary.json").exists()


def test_what_a_loser_still_writes_meets_nothing_of_its_successor(data):
    """Both save the same step: one in the background, long after it has lost the run."""
    run = tiny_run()
    train(run, data / "whole")
    calls = itertools.count()
    assert train(run, data / "parts", stop=lambda: next(calls) == 5, fence=Fence(1)) is None
    kept = data / "parts/checkpoints/lease1_25"
    assert kept.is_dir()
    late = data / "parts/checkpoints/lease1_40"

    def write(seen) -> None:
        if seen.updates == 40:
            late.mkdir()
            (late / "half").write_bytes(b"of a file")

    summary = train(run, data / "parts", fence=Fence(2), progress=write)
    assert summary["lease"] == 2
    assert not late.exists()
    assert not kept.exists()  # the newest two are the successor's
    assert_same(outcome(data / "whole", run), outcome(data / "parts", run))


def test_the_devices_have_the_next_call_before_the_last_one_is_looked_at(data, monkeypatch):
    """But where a checkpoint is due: that is of a state which the next call would have consumed."""
    run, events = tiny_run(updates=35), []
    call, write = Trainer.__call__, MetricsLog.write

    def give(self, state, batches, schedule, n):
        events.append("give")
        return call(self, state, batches, schedule, n)

    def line(self, *, step, **values):
        events.append(step)
        write(self, step=step, **values)

    monkeypatch.setattr(Trainer, "__call__", give)
    monkeypatch.setattr(MetricsLog, "write", line)
    train(run, data / "run")
    assert events == ["give", "give", 5, "give", 10, "give", 15, 20, "give", "give", 25, "give", 30, 35]


@pytest.mark.parametrize("arch", ["causal_lm", "enc_dec"])
def test_a_run_that_is_watched_is_the_same_run(data, arch):
    """Scored on the way, stopped and resumed: the same lines, parameters and scores; the last score is the run's."""
    plain = tiny_run(arch, updates=40)
    run = replace(plain, evaluate=replace(plain.evaluate, every=12 * 128))
    assert run_id(run) == run_id(plain)
    train(plain, data / "plain")
    summary = train(run, data / "whole")
    lines = [json.loads(line) for line in (data / "whole/metrics.jsonl").read_text().splitlines()]
    seen = {line["step"]: line["suffix_bits_per_byte"] for line in lines if "suffix_bits_per_byte" in line}
    assert list(seen) == [15, 25, 40]
    assert seen[40] == summary["suffix_bits_per_byte"] != seen[15]
    assert curve(data / "whole", "suffix_bits_per_byte") == pytest.approx(seen, rel=1e-6)
    assert summary["evaluations"] == 3
    assert 0 < summary["evaluate_s"] < summary["wall_s"]
    calls = iter(range(100))
    while train(run, data / "parts", stop=lambda: next(calls) % 4 == 3) is None:
        pass
    assert_same(outcome(data / "whole", run), outcome(data / "parts", run))
    assert json.loads((data / "parts/summary.json").read_text())["evaluations"] == 3
    assert curve(data / "parts", "suffix_bits_per_byte") == pytest.approx(seen, rel=1e-6)
    watched, unwatched = outcome(data / "whole", run), outcome(data / "plain", plain)
    assert_same((watched[0], b"", *watched[2:]), (unwatched[0], b"", *unwatched[2:]))


@pytest.fixture
def spoilt(monkeypatch):
    """Batches whose weights are not finite, by the updates in the list."""
    updates, chunk = [], Batches.chunk

    def spoil(self, first, n):
        batch = chunk(self, first, n)
        for update in updates:
            if first <= update < first + n:
                batch.weights[update - first] = np.nan
        return batch

    monkeypatch.setattr(Batches, "chunk", spoil)
    return updates


def test_an_update_that_is_not_finite_is_skipped_as_often_as_is_allowed(data, spoilt):
    run = tiny_run(updates=40)
    allowed = replace(run, optim=replace(run.optim, skip=1))
    assert run_id(allowed) != run_id(run)
    spoilt[:] = [7]
    summary = train(allowed, data / "one")
    assert (summary["status"], summary["skipped"], summary["updates"]) == ("done", 1, 40)
    assert summary["loss_tokens"] == 39 * 128
    lines = [json.loads(line) for line in (data / "one/metrics.jsonl").read_text().splitlines()]
    assert all(line["loss"] is not None for line in lines)
    assert [line["skipped"] for line in lines] == [0, *[1] * 7]
    summary = train(run, data / "none")
    assert (summary["status"], summary["updates"], summary["skipped"]) == ("diverged", 10, 0)
    spoilt[:] = [7, 31]
    summary = train(allowed, data / "two")
    assert (summary["status"], summary["updates"], summary["skipped"]) == ("diverged", 35, 2)
    calls = iter(range(100))  # what was skipped is counted over all parts of a run
    assert train(allowed, data / "parts", stop=lambda: next(calls) == 5) is None
    parts = train(allowed, data / "parts")
    for name in DECIDED:
        assert parts[name] == summary[name]
    assert (data / "parts/metrics.jsonl").read_bytes() == (data / "two/metrics.jsonl").read_bytes()


@pytest.mark.slow
def test_killed_at_any_moment_is_uninterrupted(data):
    """SIGKILL at moments spread over the whole life of the process, set-up, checkpoints and scoring included."""
    run = tiny_run("enc_dec", updates=1000)
    assert start(data, run, data / "whole").wait() == 0
    random = np.random.default_rng(0)
    for share in [0, *sorted(random.uniform(0, 0.9, 4))]:
        process = start(data, run, data / "killed")
        deadline = time.monotonic() + 60
        while run_state(data / "killed").tokens < share * run.train.tokens and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (data / "killed/summary.json").exists()
    assert start(data, run, data / "killed").wait() == 0
    assert_same(outcome(data / "whole", run), outcome(data / "killed", run))


@pytest.mark.slow
def test_two_processes_are_one(data):
    """Two processes of two devices over loopback, stopped and resumed on the way, against one process of four."""
    run = replace(tiny_run("enc_dec", d_model=16), mesh=MeshConfig(data=2, fsdp=2))
    assert start(data, run, data / "one", flags="--xla_force_host_platform_device_count=4").wait() == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for stop in ("lambda: next(calls) == 5", "lambda: False"):
        join = (
            "import itertools, jax; calls = itertools.count();"
            f"jax.distributed.initialize('127.0.0.1:{port}', 2, int(os.environ['RANK']));"
            f"loop.train = functools.partial(loop.train, stop={stop});"
        )
        pair = [
            start(
                data,
                run,
                data / "two",
                "import functools;" + join,
                "--xla_force_host_platform_device_count=2",
                RANK=str(rank),
            )
            for rank in (0, 1)
        ]
        assert [process.wait(300) for process in pair] == [0, 0]
    one, two = (json.loads((data / name / "summary.json").read_text()) for name in ("one", "two"))
    for name in DECIDED:
        assert (
            two[name] == pytest.approx(one[name], rel=1e-4) if isinstance(one[name], float) else two[name] == one[name]
        )
    lines = [(data / name / "metrics.jsonl").read_text().splitlines() for name in ("one", "two")]
    assert len(lines[0]) == len(lines[1])
    first = [json.loads(line[0])["loss"] for line in lines]
    assert first[0] == pytest.approx(first[1], abs=2e-6)


def test_pairs_too_long_for_a_row_are_in_the_summary(folders):
    long = {"train": (9, 40), "validation": (3, 40)}
    splits = {name: [([70, 71], [72] * (60 if i < n else 5)) for i in range(of)] for name, (n, of) in long.items()}
    write_cache("pairs", ByteVocab(), ("inputs", "targets"), splits)
    data = DataConfig(task="pairs", source_length=32, target_length=32)
    run = replace(tiny_run("enc_dec", updates=5), data=data, objective=ObjectiveConfig("seq2seq"))
    summary = train(replace(run, evaluate=replace(run.evaluate, windows=16)), folders / "run")
    assert (summary["dropped"], summary["dropped_eval"]) == (9 / 40, 3 / 40)


def test_a_status_has_one_cause(data, monkeypatch):
    monkeypatch.setattr(Trainer, "held_out_bits", lambda self, params, rows: np.full(len(rows.labels), np.nan))
    summary = train(tiny_run(updates=5), data / "run")
    assert (summary["status"], summary["error"]) == ("diverged", "the loss of the held-out text is not finite")
    assert train(tiny_run(lr=1e30), data / "other")["error"] == "the loss or its gradient is not finite"

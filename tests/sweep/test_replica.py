"""Runs in a bucket: what is copied of them, at what price, and what a holder brings there. By moto's S3 server."""

from __future__ import annotations

import gzip
import json
import logging
import os

import pytest
from tiny import SUMMARY, tiny_run, write_experiment

from encdec_jax.bucket import Bucket, bucket
from encdec_jax.errors import UserError
from encdec_jax.files import atomic_write, runs_root, sha256_file, write_json
from encdec_jax.submit.watch import watched
from encdec_jax.sweep import replica
from encdec_jax.sweep.claim import claim
from encdec_jax.sweep.experiment import load
from encdec_jax.sweep.launch import check_writable
from encdec_jax.sweep.replica import pull, pull_run, pull_whole
from encdec_jax.sweep.results import collect
from encdec_jax.sweep.scratch import scratch
from encdec_jax.sweep.store import forgive, run_state, write_error
from encdec_jax.train.objects import key_of, put_json


@pytest.fixture
def study(s3, folders, monkeypatch):
    monkeypatch.setenv("ENCDEC_RUNS", s3)
    return load(write_experiment(folders / "study"))


def lost():
    raise AssertionError


def another_machine(monkeypatch, tmp_path, name: str = "other"):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))


def saved(here, step: int, lease: int, text: str = "state") -> str:
    """A checkpoint as training leaves it, sealed."""
    name, folder = f"lease{lease}_{step}", here / "checkpoints"
    atomic_write(folder / name / "state" / "0", text + name)
    digest = sha256_file(folder / name / "state" / "0")
    write_json(folder / f"manifest-{name}-0-of-1.json", {"state/0": digest})
    return name


def checkpoints(here) -> list[str]:
    return sorted(path.name for path in (here / "checkpoints").glob("lease*"))


def test_states_cost_a_listing_and_one_small_object_a_run_that_has_changed(study, monkeypatch, tmp_path):
    first, second, third, _ = study.runs
    with claim(study.run_folder(first), lost):
        put_json(study.run_folder(first) / "summary.json", SUMMARY)
    with claim(study.run_folder(second), lost):
        write_error(study.run_folder(second), UserError("it failed"))
    asked, listed = [], []
    for name, calls in (("read", asked), ("list", listed), ("beside", listed)):
        real = getattr(Bucket, name)
        monkeypatch.setattr(
            Bucket, name, lambda self, key, real=real, calls=calls: calls.append(key) or real(self, key)
        )
    another_machine(monkeypatch, tmp_path)
    with claim(study.run_folder(third), lost) as lease:
        asked.clear()
        listed.clear()
        pull(study.root, fresh=True)
        assert listed == ["study/state", "study/submissions", "study"]  # however many runs there are
        states = [run_state(study.run_folder(identity)).status for identity in study.runs]
        assert states == ["diverged", "failed", "running", "pending"]
        assert len(asked) == 4  # of the one that failed the lease too
        pull(study.root, fresh=True)
        assert len(asked) == 4
        lease.confirm()
        pull(study.root, fresh=True)
        assert len(asked) == 5
    assert study.run_folder(first) / "lease.json" not in study.run_folder(first).iterdir()
    table = collect(study)
    assert sorted(table["status"]) == ["diverged", "failed"]
    assert bucket(runs_url()).read("study/results.parquet") is not None


def runs_url() -> str:
    return os.environ["ENCDEC_RUNS"]


def test_a_first_look_reads_summaries_together_and_none_that_has_changed_since(study, monkeypatch, tmp_path):
    monkeypatch.setattr(replica, "_FEW", 1)
    store, key, names = bucket(runs_url()), "study/summaries.json.gz", list(study.runs)
    summaries = [key_of(study.run_folder(name) / "summary.json") for name in names]
    for one in summaries[:3]:
        store.write(one, json.dumps(SUMMARY).encode())
    asked, real = [], Bucket.read
    monkeypatch.setattr(Bucket, "read", lambda self, key: asked.append(key) or real(self, key))

    def look(name: str) -> list[str]:
        another_machine(monkeypatch, tmp_path, name)
        asked.clear()
        pull(study.root, fresh=True)
        return [run_state(study.run_folder(identity)).status for identity in names]

    for there in (None, b"{", b"[" * 100_000, json.dumps({summaries[0]: 1}).encode()):
        if there is not None:
            store.write(key, there if there == b"{" else gzip.compress(there))
        assert look(f"whatever there is: {there and there[:9]}") == ["diverged"] * 3 + ["pending"]
        assert set(summaries[:3]) < set(asked)
        assert look(f"after {there and there[:9]}") == ["diverged"] * 3 + ["pending"]
        assert asked == [key]
    store.write(summaries[0], b"[]")
    store.remove(summaries[1:2])
    store.write(summaries[3], json.dumps(SUMMARY).encode())
    assert look("changed") == ["damaged", "pending", "diverged", "diverged"]
    assert set(asked) == {key, summaries[0], summaries[3]}

    def refuse(self, key, data, tag=None):
        raise PermissionError("only to be read")

    store.remove([key])
    monkeypatch.setattr(Bucket, "create", refuse)
    assert look("of one who may only read") == ["damaged", "pending", "diverged", "diverged"]


def test_whatever_others_put_beside_runs_each_run_is_shown(study, monkeypatch, tmp_path):
    store, (first, second, third, fourth) = bucket(runs_url()), study.runs
    for name, text in {
        "": "nobody's",
        "/lease.json": "{}",
        "/lease.json/within": "x",
        "/error.txt/deep/er": "x",
        f"/{'long' * 70}": "x",
        "/~%2F..%2F.. é\\": "x",
    }.items():
        store.write(f"study/state/{first}{name}", text.encode())
    store.write(f"study/state/{second}/lease.json", b"[" * 100_000)
    store.write(f"study/state/{third}/lease.json", json.dumps({"number": 10**400, "holder": 3, "seen": []}).encode())
    store.write(f"study/state/{fourth}/summary.json", b"\xff")
    for name in ("state/x", "state/x/y/z", "submissions/a.json", "submissions/a.json/b.json", "logs", "notes/a.json"):
        store.write(f"study/{name}", b"\xff")
    for again in range(2):
        another_machine(monkeypatch, tmp_path)
        pull(study.root, fresh=True)
        states = [one.state.status for one in watched(study)]
        assert states[0] in ("stale", "running")
        assert states[3] == "damaged", again
    with claim(study.run_folder(fourth), lost):
        pass


def test_a_failed_run_is_forgiven_for_all_machines(study, monkeypatch, tmp_path):
    folder = study.run_folder(next(iter(study.runs)))
    write_error(folder, UserError("it failed"))
    write_error(folder, UserError("so it did of one who held it before, and is late"))
    another_machine(monkeypatch, tmp_path)
    folder = study.run_folder(folder.name)
    pull(study.root, fresh=True)
    assert forgive(folder)
    assert not forgive(folder)
    another_machine(monkeypatch, tmp_path, "third")
    pull(study.root, fresh=True)
    folder = study.run_folder(folder.name)
    assert run_state(folder).status == "pending"
    assert (folder / "error.previous.txt").read_text() == "it failed\n"


def test_a_summary_that_is_removed_is_gone_everywhere(study, monkeypatch):
    folder = study.run_folder(next(iter(study.runs)))
    put_json(folder / "summary.json", SUMMARY)
    pull(study.root, fresh=True)
    bucket(runs_url()).remove([key_of(folder / "summary.json")])
    pull(study.root, fresh=True)
    assert run_state(folder).status == "pending"


def test_a_run_at_work_shows_how_far_it_is_to_other_machines(study, monkeypatch, tmp_path):
    identity, run = next(iter(study.runs.items()))
    with claim(study.run_folder(identity), lost) as lease, scratch(run, study.run_folder(identity), lease) as here:
        steps = [json.dumps({"step": n, "tokens": 128 * n, "step_s": n / 10, "loss": 1.0}) for n in range(1, 100)]
        for name in ("metrics.jsonl", "timing.jsonl"):
            (here / name).write_text("\n".join(steps) + "\n")
        write_json(here / "made_of.json", {"device": "NVIDIA H100"})
        lease.confirm()
        another_machine(monkeypatch, tmp_path)
        (one,) = (one for one in watched(study) if one.run_id == identity)
        assert (one.state.status, one.state.tokens, one.step) == ("running", 99 * 128, 99)
        assert one.tokens_per_s == pytest.approx(1280)
        assert one.mfu is not None
        assert one.heartbeat_s is not None


def test_another_machine_goes_on_from_the_newest_checkpoint_that_is_whole(study, caplog, tmp_path):
    identity, run = next(iter(study.runs.items()))
    folder = study.run_folder(identity)
    with claim(folder, lost) as lease, scratch(run, folder, lease) as here:
        assert checkpoints(here) == []
        for name in ("config.json", "metrics.jsonl", "timing.jsonl"):
            (here / name).write_text(f"{name} of the first\n")
        saved(here, 20, 1)
        saved(here, 40, 1)
        atomic_write(here / "checkpoints" / "lease1_60" / "state" / "0", "never sealed")
    with claim(folder, lost) as lease, scratch(run, folder, lease) as here:
        assert checkpoints(here) == ["lease1_40"]
        assert (here / "metrics.jsonl").read_text() == "metrics.jsonl of the first\n"
        saved(here, 60, 2)
    store, base = bucket(runs_url()), f"study/runs/{identity}/checkpoints"
    names = {key.removeprefix(f"{base}/").split("/")[0] for key in store.list(base)}
    assert names == {"lease1_40", "lease2_60", "manifest-lease1_40-0-of-1.json", "manifest-lease2_60-0-of-1.json"}
    store.write(f"{base}/lease2_60/state/0", b"damaged")
    with caplog.at_level(logging.WARNING), claim(folder, lost) as lease, scratch(run, folder, lease) as here:
        assert checkpoints(here) == ["lease1_40"]
    assert "lease2_60 in s3://" in caplog.text
    store.remove([f"{base}/manifest-lease1_40-0-of-1.json"])
    with claim(folder, lost) as lease, scratch(run, folder, lease) as here:
        assert checkpoints(here) == []
    assert {key.removeprefix(f"{base}/").split("/")[0] for key in store.list(base)} >= {"lease2_60"}
    assert not [key for key in store.list(base) if "lease1_40" in key]


def test_a_manifest_can_not_write_outside_of_its_folder(study, tmp_path):
    identity, run = next(iter(study.runs.items()))
    folder, store, base = study.run_folder(identity), bucket(runs_url()), f"study/runs/{identity}/checkpoints"
    store.write(f"{base}/lease1_20/x", b"text")
    digest = "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"  # of 'text'
    store.write(f"{base}/manifest-lease1_20-0-of-1.json", json.dumps({"../../../x": digest}).encode())
    with claim(folder, lost) as lease, scratch(run, folder, lease) as here:
        assert checkpoints(here) == []
        assert not (here.parent / "x").exists()


def test_checkpoints_that_are_stamped_stay(study):
    run = tiny_run(keep=1, keep_at=str(20 * 128))
    folder = study.run_folder("0123456789ab")
    for number, steps in ((1, (20, 40)), (2, (60, 80))):
        with claim(folder, lost) as lease, scratch(run, folder, lease) as here:
            for step in steps:
                saved(here, step, number)
    base = "study/runs/0123456789ab/checkpoints"
    kept = {
        key.removeprefix(f"{base}/").split("/")[0] for key in bucket(runs_url()).list(base) if "manifest" not in key
    }
    assert kept == {"lease1_20", "lease2_80"}


def test_the_summary_comes_last_and_only_once(study, monkeypatch):
    identity, run = next(iter(study.runs.items()))
    folder, order = study.run_folder(identity), []
    for name in ("write", "create", "replace"):
        did = getattr(Bucket, name)

        def noted(self, key, *rest, did=did):
            order.append(key)
            return did(self, key, *rest)

        monkeypatch.setattr(Bucket, name, noted)
    with claim(folder, lost) as lease:
        with scratch(run, folder, lease) as here:
            saved(here, 20, 1)
            (here / "metrics.jsonl").write_text("lines\n")
            (here / "suffix_bits.npy").write_bytes(b"bits")
            write_json(here / "summary.json", SUMMARY)
        assert not here.exists()
        wrote = [key.rpartition(f"{identity}/")[2] for key in order if "lease.json" not in key]
        assert wrote.index("checkpoints/lease1_20/state/0") < wrote.index("checkpoints/manifest-lease1_20-0-of-1.json")
        assert wrote[-1] == "summary.json"
        with scratch(run, folder, lease) as here:
            write_json(here / "summary.json", SUMMARY | {"updates": 7})
    pull_run(folder)
    pull_whole(study.root, [identity])
    assert run_state(folder).summary["updates"] == SUMMARY["updates"]
    assert (folder / "suffix_bits.npy").read_bytes() == b"bits"
    assert (folder / "metrics.jsonl").read_text() == "lines\n"


def test_what_a_loser_writes_late_is_replaced_and_its_own_write_refused(study):
    """A loser that was frozen between its last question and the write, and one that writes behind its successor."""
    identity, run = next(iter(study.runs.items()))
    folder, store = study.run_folder(identity), bucket(runs_url())
    key = key_of(folder / "metrics.jsonl")
    store.write(key, b"of the first")
    stale = store.read(key)[1]
    with claim(folder, lost) as lease, scratch(run, folder, lease) as here:
        late = store.replace(key, b"late", stale)
        (here / "metrics.jsonl").write_text("of the second")
    assert store.read(key)[0] == b"of the second"
    assert store.replace(key, b"later", late) is None


def test_a_run_that_raises_leaves_its_sealed_checkpoints(study, monkeypatch):
    from encdec_jax.sweep import scratch as module

    monkeypatch.setattr(module, "PERIOD", 0.01)
    identity, run = next(iter(study.runs.items()))
    folder, base = study.run_folder(identity), f"study/runs/{identity}/checkpoints"

    def raising():
        saved(here, 20, 1)
        while f"{base}/manifest-lease1_20-0-of-1.json" not in bucket(runs_url()).list(base):
            pass
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), claim(folder, lost) as lease, scratch(run, folder, lease) as here:
        raising()
    assert not here.exists()


def test_a_store_without_conditional_writes_is_refused_before_anything_runs(study, monkeypatch):
    check_writable(study)
    assert not [key for key in bucket(runs_url()).list("") if "probe" in key]
    put = Bucket._put
    for ignored, told in (("create", "created again"), ("update", "no longer in")):

        def heedless(self, key, data, mode, refused, ignored=ignored):
            mode = "overwrite" if (mode == "create") == (ignored == "create") else mode
            return put(self, key, data, mode, refused)

        monkeypatch.setattr(Bucket, "_put", heedless)
        with pytest.raises(UserError, match=told):
            check_writable(study)


def test_no_secret_enters_a_bucket_or_its_copy(study, s3):
    identity, run = next(iter(study.runs.items()))
    folder = study.run_folder(identity)
    with claim(folder, lost) as lease, scratch(run, folder, lease) as here:
        saved(here, 20, 1)
        (here / "metrics.jsonl").write_text("lines\n")
    pull(study.root, fresh=True)
    store = bucket(runs_url())
    texts = [store.read(key)[0] for key in store.list("study")]
    texts += [path.read_bytes() for path in runs_root().rglob("*") if path.is_file()]
    assert len(texts) > 5
    assert not any(b"secret" in text or b"not-a-key" in text for text in texts)

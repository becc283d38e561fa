"""What `encdec count` prints and gives as JSON adds up to the ledger."""

import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from support import model_config

import encdec_jax.tables.count
from encdec_jax.cli.main import main
from encdec_jax.compute import memory
from encdec_jax.compute.ledger import CONVENTION, Ledger, count
from encdec_jax.compute.serving import cache_bytes, decode, prefill
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.zoo import NAMED
from encdec_jax.tables.count import count_json, print_count
from encdec_jax.train.config import MeshConfig, TrainConfig

HALVES, RANDOM = ObjectiveConfig("prefix_lm"), ObjectiveConfig("prefix_lm", prefix="random")


def run_of(arch: str, objective: ObjectiveConfig = HALVES, **changes: object) -> RunConfig:
    return RunConfig(
        model_config(arch, **changes), DataConfig(length=10), objective, train=TrainConfig(tokens=1000, batch_size=6)
    )


@pytest.fixture
def padded(monkeypatch: pytest.MonkeyPatch) -> Callable[[RunConfig], Ledger]:
    """What is counted leaves padding, as packed rows do."""

    def shorter(run: RunConfig) -> Ledger:
        segments = count(run).row.segments
        return count(run, tuple((0.9 * source, 0.9 * target, number) for source, target, number in segments))

    monkeypatch.setattr(encdec_jax.tables.count, "count", shorter)
    return shorter


@pytest.mark.parametrize("objective", [HALVES, RANDOM])
def test_json_is_of_one_window_and_adds_up(objective: ObjectiveConfig, padded: Callable[[RunConfig], Ledger]) -> None:
    run = run_of("enc_dec", objective, remat="full")
    ledger, data = padded(run), json.loads(json.dumps(count_json(run)))
    assert data["params"] == {
        "total": ledger.params.total,
        "non_embedding": ledger.params.non_embedding,
        "active": ledger.params.active,
        "groups": ledger.params.groups,
    }
    batch = {"forward": "forward", "train_step": "train_flops", "recompute": "recompute", "padding": "padding"}
    for name, field in batch.items():
        found, flops = data["flops"][name], getattr(ledger, field)
        assert (found["mask"] * 6, found["dense"] * 6) == pytest.approx((flops.mask, flops.dense))
    one = {"prefill": prefill(run.model, 5), "decode": decode(run.model, 5, 4, 5)}
    assert {name: data["flops"][name]["mask"] for name in one} == {name: flops.mask for name, flops in one.items()}
    for flops in data["flops"].values():
        for kind in ("groups", "streams"):
            assert sum(part["mask"] for part in flops[kind].values()) == pytest.approx(flops["mask"])
    assert data["lengths"]["held"]["target"] == pytest.approx(0.9)
    assert data["run"]["updates"] == 17
    assert data["run"]["train_flops"]["mask"] == 17 * ledger.train_flops.mask
    assert data["convention"] == CONVENTION


def test_json_gives_bytes_and_lengths() -> None:
    run = replace(run_of("enc_dec"), mesh=MeshConfig(data=2))
    data = json.loads(json.dumps(count_json(run)))
    held = memory.training(run)
    assert data["bytes"]["training"]["activations"] == held.activations > data["bytes"]["per_device"]["activations"]
    for dtype in ("float32", "bfloat16", "int8", "int4"):
        cache = cache_bytes(run.model, 5, 5, dtype)
        assert data["bytes"]["kv_cache"][dtype] == {"own": cache.own, "cross": cache.cross}
    assert 8 * data["bytes"]["weights"]["int4"] == held.weights
    lengths = {"windows": 1, "source": 5, "target": 5, "scored": 5, "prefill": 5, "decode": 5}
    full = {"source": 1.0, "target": 1.0, "scored": 1.0}
    assert data["lengths"] == lengths | {"held": full}


@pytest.mark.parametrize("arch", ARCHS)
def test_the_table_prints_every_group_and_the_totals(arch: str, padded: Callable[[RunConfig], Ledger]) -> None:
    console = Console(width=140, record=True, file=StringIO())
    run = replace(run_of(arch, remat="full"), budget_flops=1e9, mesh=MeshConfig(data=2))
    print_count(run, console)
    text, ledger = console.export_text(), padded(run)
    apart = ("distance from the budget", "recomputed by remat", "padding, on top", "on each of 2", "KV cache, cross")
    for expected in (*ledger.params.groups, *ledger.train_flops.by("group"), *apart):
        assert expected in text
    assert f"{ledger.params.total:,}" in text
    for flops in (ledger.train_flops, prefill(run.model, 5), decode(run.model, 5, 4, 5)):
        assert f"{flops.mask:.4g}" in text


@pytest.mark.parametrize("name", NAMED)
def test_every_published_model_is_counted(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["count", "--preset", name]) == 0
    assert "decode" in capsys.readouterr().out

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from encdec_jax.cli.memory import add
from encdec_jax.compute import memory
from encdec_jax.compute.capacity import capacity, rivals
from encdec_jax.compute.devices import device
from encdec_jax.compute.ledger import count
from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.errors import UserError
from encdec_jax.model.config import ModelConfig, StackConfig
from encdec_jax.model.presets import preset
from encdec_jax.tables.memory import memory_json, print_memory
from encdec_jax.train.config import MeshConfig, TrainConfig


def run_of(arch: str = "enc_dec", batch: int = 64, length: int = 512, **changes: object) -> RunConfig:
    model = preset(arch, d_model=512, dec_layers=6, vocab_size=8192, **changes)
    objective = ObjectiveConfig("causal_lm" if arch == "causal_lm" else "prefix_lm")
    return RunConfig(
        model=model, data=DataConfig(length=length), objective=objective, train=TrainConfig(batch_size=batch)
    )


@pytest.mark.parametrize("name", ["h100-80gb", "v5e", "rtx3060-12gb", "cpu-24gb"])
def test_the_largest_that_fits_is_the_largest(name):
    found = capacity(run_of(), device(name), "bfloat16")
    alone = replace(run_of(), model=replace(run_of().model, attention="splash" if name == "v5e" else "plain"))

    def trains(batch: int, length: int) -> bool:
        run = replace(alone, train=TrainConfig(batch_size=batch), data=DataConfig(length=length))
        return memory.training(run).total <= found.memory

    assert trains(found.train_batch, 512)
    assert not trains(found.train_batch + 1, 512)
    assert trains(1, found.train_length)
    assert not trains(1, found.train_length + 1)
    infers = [memory.inference(alone.model, found.infer_batch + more, 256, 256, "bfloat16").total for more in (0, 1)]
    assert infers[0] <= found.memory < infers[1]


def test_rivals_are_equal_in_what_they_say():
    own, params, flops = rivals(run_of())
    mine = count(own.run)
    assert own.run.model == run_of().model
    assert count(params.run).params.total == pytest.approx(mine.params.total, rel=0.01)
    assert count(flops.run).train_flops.mask == pytest.approx(mine.train_flops.mask, rel=0.01)
    assert params.mismatch == pytest.approx(count(params.run).params.total / mine.params.total - 1)
    for rival in (params, flops):
        assert (rival.run.model.arch, rival.run.objective.name) == ("causal_lm", "causal_lm")
        assert geometry(rival.run).sequence == geometry(own.run).sequence == (256, 256)
    assert count(flops.run).params.non_embedding < 0.6 * mine.params.non_embedding  # T5: L+L costs as much as L
    assert len(rivals(run_of("causal_lm"))) == 1


GROUPED = StackConfig(n_layers=6, d_model=1024, n_heads=16, n_kv_heads=4, head_dim=64, d_ff=2048)
T5_3B = StackConfig(n_layers=24, d_model=1024, n_heads=32, n_kv_heads=32, head_dim=128, d_ff=16384)


@pytest.mark.parametrize(("stack", "mlp", "heads"), [(GROUPED, "swiglu", "16/4 of 64"), (T5_3B, "gelu", "32 of 128")])
def test_rivals_have_the_heads_of_the_run(stack, mlp, heads):
    """Else caches tell of other heads: the first's would be 0.13 of its rival's, the second's 1.26."""
    model = ModelConfig("enc_dec", 32128, decoder=stack, encoder=stack, mlp=mlp)
    run = replace(run_of(), model=model)
    for rival in rivals(run)[1:]:
        other = rival.run.model.decoder
        assert (other.n_heads, other.n_kv_heads, other.head_dim) == (stack.n_heads, stack.n_kv_heads, stack.head_dim)
    data = memory_json(run, [device("h100-80gb")], "bfloat16")
    assert {one["heads"] for one in data["models"]} == {heads}
    cache = data["over"]["decoder of equal parameters"]["cache"]
    assert cache == pytest.approx(stack.n_layers / rivals(run)[1].run.model.decoder.n_layers)
    assert cache == pytest.approx(0.43, abs=0.01)
    console = Console(width=180, record=True, file=StringIO())
    print_memory(run, [device("h100-80gb")], "bfloat16", console)
    assert f"{cache:.2f} times its cache" in " ".join(console.export_text().split())


def test_random_cuts_fill_rows_of_two_windows():
    run = replace(run_of(), objective=ObjectiveConfig("prefix_lm", "random"))
    assert geometry(run).sequence == (256, 256)
    assert capacity(run, device("cpu-24gb"), "float32").train_batch % 2 == 0


def test_what_does_not_fit_says_by_how_much_and_what_would():
    run = run_of(batch=4096)
    found = capacity(run, device("rtx3060-12gb"), "float32")
    assert found.over == memory.training(replace(run, model=replace(run.model, attention="plain"))).total - found.memory
    assert found.over > 0
    assert f"train.batch_size = {found.train_batch}" in found.remedies
    shards = next(int(text.split()[-1]) for text in found.remedies if "fsdp" in text)
    plain = replace(run, model=replace(run.model, attention="plain"))
    assert memory.per_device(replace(plain, mesh=MeshConfig(fsdp=shards))).total <= found.memory
    assert memory.per_device(replace(plain, mesh=MeshConfig(fsdp=shards // 2))).total > found.memory
    assert capacity(run_of(batch=1), device("h100-80gb"), "bfloat16").remedies == ()


def test_a_model_that_fits_no_batch_is_told_so():
    model = preset("causal_lm", d_model=8192, dec_layers=80, vocab_size=32768)
    run = RunConfig(model, data=DataConfig(length=4096), train=TrainConfig(batch_size=1))
    found = capacity(run, device("rtx3060-12gb"), "int4")
    assert (found.train_batch, found.train_length, found.infer_batch, found.infer_length) == (0, 0, 0, 0)
    assert found.remedies == ()
    console = Console(width=180, record=True, file=StringIO())
    print_memory(run, [device("rtx3060-12gb")], "int4", console)
    text = " ".join(console.export_text().split())
    assert "No change of batch, remat, dtype, optimizer or fsdp makes it fit: a smaller model would." in text
    assert "fit with" not in text


def test_smaller_types_hold_more():
    batches = [
        capacity(run_of(), device("v5e"), dtype).infer_batch for dtype in ("float32", "bfloat16", "int8", "int4")
    ]
    assert batches == sorted(batches)
    assert batches[0] < batches[1]


def test_table_and_json_answer_the_claim():
    console = Console(width=180, record=True, file=StringIO())
    devices = [device("v5e"), device("cpu-24gb")]
    print_memory(run_of(batch=4096), devices, "bfloat16", console)
    text = console.export_text()
    data = json.loads(json.dumps(memory_json(run_of(batch=4096), devices, "bfloat16")))
    ratio = data["over"]["decoder of equal parameters"]
    assert max(ratio["training"], ratio["inference"]) < 1.1
    assert data["over"]["decoder of equal FLOPs"]["weights"] > 1.6
    for expected in (
        "does not need twice the memory",
        "training lacks",
        "v5e: 15.8 GiB",
        f"{ratio['training']:.2f} times",
    ):
        assert expected in " ".join(text.split())
    first = data["devices"]["v5e"][0]
    assert first["train"]["total"] == sum(
        first["train"][part] for part in ("weights", "gradients", "moments", "activations")
    )
    assert [model["label"] for model in data["models"]] == [rival.label for rival in rivals(run_of())]


def test_the_verb(capsys):
    verbs = argparse.ArgumentParser().add_subparsers()
    options = add(verbs).parse_args(["--device", "v5e", "--json"])
    options.run = run_of("causal_lm")
    assert options.function(options) == 0
    assert json.loads(capsys.readouterr().out)["dtype"] == "float32"
    options.device = "v5e,tpu"
    with pytest.raises(UserError, match="device = 'tpu' is not accepted"):
        options.function(options)
    options.device, options.dtype = "v5e", "fp8"
    with pytest.raises(UserError, match="fp8"):
        options.function(options)

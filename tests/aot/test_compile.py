"""Real compilations for devices that are not here."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import pytest

from encdec_jax.aot.bounds import Bound, wire
from encdec_jax.aot.compile import Compiled, compile_step, exhausted
from encdec_jax.aot.search import rank
from encdec_jax.aot.topology import FAMILIES, devices, topology
from encdec_jax.cli.main import main
from encdec_jax.config import RunConfig, to_dict
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.files import write_json
from encdec_jax.model.declare import model
from encdec_jax.model.param import leaves
from encdec_jax.model.presets import preset
from encdec_jax.tables.compile import refusal
from encdec_jax.train.config import MeshConfig, TrainConfig

tpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the extra [tpu]")
no_gpu = pytest.mark.skipif(importlib.util.find_spec("jax_cuda12_plugin") is None, reason="needs the extra [gpu]")
ALONE = MeshConfig()


def run_of(arch: str, mesh: MeshConfig = ALONE, length: int = 128, rows: int = 8, **model: object) -> RunConfig:
    return RunConfig(
        model=preset(arch, **{"d_model": 128, "dec_layers": 2, "vocab_size": 256, "dtype": "bfloat16", **model}),
        data=DataConfig(length=length),
        objective=ObjectiveConfig("causal_lm" if arch == "causal_lm" else "prefix_lm"),
        train=TrainConfig(batch_size=rows),
        mesh=mesh,
    )


def compiled(run: RunConfig, name: str, step: str = "train") -> Compiled:
    given = topology(name)
    return compile_step(run, given, devices(given), step)


@tpu
@pytest.mark.parametrize(
    ("arch", "scan", "remat"), [("causal_lm", True, "full"), ("causal_lm", False, "none"), ("enc_dec", True, "none")]
)
def test_an_update_on_tpus_computes_what_the_ledger_says(arch, scan, remat):
    run = run_of(arch, MeshConfig(1, 2, 2), scan=scan, remat=remat, attention="plain")
    found = compiled(run, "v5e:2x2")
    assert found.fits
    assert found.memory.aliased > 0.99 * (found.memory.outputs - 4096)  # the state is donated
    assert found.program.flops == pytest.approx(found.counted.dense, rel=1e-12)
    assert {one.kind for one in found.program.collectives} >= {"all-gather", "all-reduce"}
    assert found.program.unknown_loops == 0


@tpu
@pytest.mark.slow
def test_the_compilers_own_count_of_an_unrolled_model_is_the_ledgers():
    """It counts elementwise work too, which the width makes small."""
    run = run_of("causal_lm", d_model=512, dec_layers=1, scan=False, attention="plain", vocab_size=2048)
    found = compiled(run, "v5e:1x1")
    assert found.program.flops == found.counted.dense
    assert found.flops == pytest.approx(found.counted.dense, rel=0.02)


@tpu
@pytest.mark.slow
def test_activations_are_divided_by_rows_and_weights_are_gathered():
    """Divided by d_model, as the weights are, activations would be added up behind every product."""
    run = run_of("causal_lm", MeshConfig(1, 4, 1), length=1024, rows=16, attention="plain")
    found = compiled(run, "v5e:2x2")
    assert sum(one.wire for one in found.program.collectives) < 2 * wire(run, "train", (0, 0))


@tpu
def test_what_fsdp_must_send_is_found_to_the_byte():
    """Blocks' matrices are gathered forward and backward, the table once; the gradients are summed over both axes."""
    run = run_of("causal_lm", MeshConfig(2, 2, 1), attention="splash")
    step = compiled(run, "v5e:2x2")
    found, peak = step.program.collectives, step.topology.device.peak["bfloat16"]
    kernels = (step.counted.mask - step.program.flops) / peak  # attention, for which the compiler gives no cycles
    assert kernels > 0
    assert step.seconds == pytest.approx(step.program.cycles * FAMILIES["v5e"].cycle / peak + kernels)
    beside, apart = (step.counted.model / peak / time for time in step.times)
    assert step.mfu == pytest.approx((beside, apart))
    assert apart < beside < 1
    sizes = {path: 2 * param.size for path, param in leaves(model(run.model)) if path[-1] != "scale"}
    tables = sum(size for path, size in sizes.items() if path[-1] == "table")
    assert sum(one.bytes for one in found if one.kind == "all-gather") == 2 * sum(sizes.values()) - tables
    assert 1 < sum(one.wire for one in found) / wire(run, "train", (0, 0)) < 1.1


@tpu
@pytest.mark.slow
def test_what_a_sequence_axis_must_send_is_found_to_the_byte():
    """Keys and values are gathered once without remat, and their gradients scattered; weights' gradients are summed."""
    run = run_of("causal_lm", MeshConfig(1, 1, 1, 4), length=2048, rows=4, attention="splash")
    found = compiled(run, "v5e:2x2").program.collectives
    size = run.model.decoder
    keys = 2 * 2 * 4 * 2048 * size.n_kv_heads * size.head_dim * size.n_layers  # of both, in bfloat16
    sent = {kind: sum(one.bytes for one in found if one.kind == kind) for kind in ("all-gather", "reduce-scatter")}
    assert sent == {"all-gather": keys + size.n_layers * 4 * 4 * 2048, "reduce-scatter": keys}  # segments too
    assert 1 < sum(one.wire for one in found) / wire(run, "train", (0, 0)) < 1.1


@tpu
@pytest.mark.slow
def test_a_search_ranks_by_what_must_be_sent():
    """Behind the compiler's own estimate: of two steps alike in that, the one that sends less is the better."""
    run = run_of("causal_lm", head_dim=32, rows=4, length=64, attention="plain")
    meshes = [MeshConfig(1, 1, 4), MeshConfig(1, 4, 1), MeshConfig(2, 2, 1), MeshConfig(4, 1, 1)]
    needed = {mesh: wire(replace(run, mesh=mesh), "train", (0, 0)) for mesh in meshes}
    found = [compiled(replace(run, mesh=mesh), "v5e:2x2") for mesh in meshes]
    for one in found:
        assert (
            1 < sum(sent.wire for sent in one.program.collectives) / needed[one.run.mesh] < 1.2
        )  # some are summed whole
    assert sorted(found, key=lambda one: one.bound.collectives) == sorted(found, key=lambda one: needed[one.run.mesh])
    assert rank(found) == sorted(found, key=lambda one: one.seconds + one.bound.collectives)
    best = rank(found)[0]
    assert best.bound.collectives == min(one.bound.collectives for one in found)
    late = replace(best, bound=replace(best.bound, collectives=1.0))
    assert rank([late, *found])[-1] is late
    assert late.times == (1.0, 1.0 + best.seconds)


@tpu
@pytest.mark.parametrize(("arch", "step"), [("causal_lm", "prefill"), ("enc_dec", "prefill"), ("enc_dec", "decode")])
def test_inference_on_tpus(arch, step):
    run = run_of(arch, MeshConfig(2, 1, 2), attention="plain")
    found = compiled(run, "v5e:2x2", step)
    assert found.fits
    if step == "prefill":
        assert found.program.flops == pytest.approx(found.counted.dense, rel=1e-12)
    else:  # one query's scores are no matrix product any more
        assert 0.8 < found.program.flops / found.counted.dense < 1
    assert bool(found.memory.aliased) == (step == "decode")  # the cache is written in place


@tpu
@pytest.mark.slow
def test_a_model_of_a_billion_parameters():
    """Here libtpu overlaps the gathering of weights with products, by loops inside the loop over layers."""
    mesh, model = MeshConfig(1, 16, 1), {"d_model": 2048, "dec_layers": 20, "vocab_size": 32768, "head_dim": 128}
    found = compiled(
        run_of("causal_lm", mesh, length=512, rows=16, remat="full", attention="plain", **model), "v5e:4x4"
    )
    assert found.fits
    assert found.program.flops == pytest.approx(found.counted.dense, rel=1e-12)
    assert found.memory.arguments == pytest.approx(12 * 1.074e9 / 16, rel=0.01)  # weights and two moments, float32
    assert "collective-permute" in {one.kind for one in found.program.collectives}


@tpu
@pytest.mark.slow
def test_what_does_not_fit_is_refused_with_what_would(tmp_path, capsys):
    run = run_of("causal_lm", MeshConfig(4, 1, 1), length=4096, rows=64, vocab_size=65536, attention="plain")
    write_json(tmp_path / "run.json", to_dict(run))
    code = main(["compile", str(tmp_path / "run.json"), "--topology", "v5e:2x2", "--json"])
    out, err = capsys.readouterr()
    assert code == 2
    (line,) = (line for line in err.splitlines() if line.startswith("encdec: "))
    assert "train does not fit v5e:2x2" in line
    found = json.loads(out)
    needs, over = (n / 2**30 for n in (found["bytes"]["needs"], found["bytes"]["needs"] - found["bytes"]["holds"]))
    assert found["fits"] is False
    assert over > 0
    assert f"it needs {needs:.2f} GiB a device of 15.75, {over:.2f} too many" in line
    assert "model.remat=full" in line


@tpu
def test_the_command_prints_what_it_found(tmp_path, capsys):
    write_json(tmp_path / "run.json", to_dict(run_of("prefix_lm", MeshConfig(2, 1, 1), dec_layers=1)))
    arguments = ["--topology=v5e:1x1", "--mesh=fsdp=1", "--rows=2", "--step=decode"]
    assert main(["compile", str(tmp_path / "run.json"), *arguments]) == 0
    out = capsys.readouterr().out
    for words in ("Memory of a device", "Seconds of a step", "ledger, dense", "bound, all at once"):
        assert words in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology=v9:2x2"], "topology = 'v9:2x2' is not accepted"),
        (["--topology=v5e:2x2"], "numbers whose product is the 4 devices of v5e:2x2, or --search"),
        (["--topology=v5e:2x2", "--mesh=fsdp=3"], "--mesh = 'data=1,fsdp=3,tensor=1' is not accepted"),
        (["--topology=v5e:2x2", "--mesh=model=4"], "--mesh = 'model=4' is not accepted: data=N,fsdp=N"),
        (["--topology=v5e:2x2", "--mesh=sequence=3"], "--mesh = 'data=1,fsdp=1,tensor=1,sequence=3' is not accepted"),
        pytest.param(
            ["--topology=v5e:2x2", "--mesh=sequence=4", "--step=decode"], "mesh.sequence = 4 is not accepted", marks=tpu
        ),
        (["--topology=v5e:2x2", "--mesh=fsdp=4", "--rows=0"], "--rows = '0' is not accepted"),
        (["--topology=v5e:2x2", "--mesh=fsdp=4", "--search"], "--mesh and --search exclude each other"),
        pytest.param(["--topology=v5e:2x2", "--mesh=fsdp=4"], "a divisor of the 'embed' dimension of 130", marks=tpu),
        pytest.param(["--topology=v5e:2x2", "--mesh=data=4", "--rows=6"], "train.batch_size = 6", marks=tpu),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(tmp_path, capsys, arguments, message):
    write_json(tmp_path / "run.json", to_dict(run_of("causal_lm", d_model=130, head_dim=32)))
    assert main(["compile", str(tmp_path / "run.json"), *arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert not out


@pytest.mark.parametrize(
    "message",
    [
        "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 30.50G of 15.75G hbm. Exceeded ...",
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (30.50G) exceeds "
        "available HBM (15.75G).",
    ],
)
def test_a_refusal_of_the_compiler_is_read(message):
    assert exhausted(message) == (int(30.5 * 2**30), int(15.75 * 2**30))


def test_ranking_puts_what_fits_first_and_a_remedy_is_told():
    run = run_of("causal_lm", MeshConfig(4, 1, 1), length=512, rows=64)
    given = topology("v5e:2x2")
    common = {"topology": given, "step": "train", "rows": 64, "compile_s": 1.0, "holds": 100, "counted": None}
    large, small = (Compiled(run=run, needs=needs, **common) for needs in (160, 110))
    slow, fast = (Compiled(run=run, needs=90, bound=Bound(time, 1, 1), **common) for time in (3, 2))
    assert rank([large, slow, small, fast]) == [fast, slow, small, large]
    assert "it would with model.remat=full" in refusal(large)
    hopeless = Compiled(run=replace(run, train=replace(run.train, batch_size=4)), needs=10**9, **common)
    assert "a smaller batch, model or length would, or more devices" in refusal(hopeless)


@no_gpu
@pytest.mark.gpu
@pytest.mark.parametrize(("name", "step"), [("h100:8", "train"), ("h100:8", "decode"), ("a100:8", "prefill")])
def test_steps_on_gpus(name, step):
    found = compiled(run_of("enc_dec", MeshConfig(2, 2, 2), d_model=256, attention="plain"), name, step)
    assert found.fits
    assert found.memory.arguments > 0
    assert found.program.collectives
    assert found.flops is None

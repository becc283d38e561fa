from __future__ import annotations

from dataclasses import replace

import pytest
from tiny import tiny_run

from encdec_jax.aot.bounds import bound, counted, estimated, rewritten, wire
from encdec_jax.aot.search import candidates, meshes
from encdec_jax.aot.topology import topology
from encdec_jax.compute import memory
from encdec_jax.compute.devices import device
from encdec_jax.compute.ledger import count
from encdec_jax.data.geometry import geometry
from encdec_jax.train.config import MeshConfig


def test_the_roofline():
    v5e = device("v5e")
    found = bound(v5e, "bfloat16", flops=197e12, held=819e9 / 2, wire=200e9 / 4)
    assert (found.compute, found.memory, found.collectives) == pytest.approx((1, 0.5, 0.25))
    assert found.overlapped == pytest.approx(1)
    assert found.serial == pytest.approx(1.25)


def test_flops_of_a_device_are_the_ledgers_over_the_mesh():
    run = replace(tiny_run(), mesh=MeshConfig(2, 1, 2))
    run = replace(run, model=replace(run.model, remat="full"))
    ledger = count(run)
    found = counted(run, "train", (16, 16))
    assert found.dense == (ledger.train_flops.dense + ledger.recompute.dense) / 4
    assert counted(run, "decode", (16, 16)).dense < counted(run, "prefill", (16, 16)).dense < found.dense


def test_wires_carry_what_an_axis_divides():
    run = tiny_run(d_model=16)
    weights, table = 4 * count(run).params.total, 4 * 259 * 16
    assert wire(run, "train", (16, 16)) == 0
    fsdp = replace(run, mesh=MeshConfig(1, 4, 1))
    assert wire(fsdp, "train", (16, 16)) == pytest.approx((3 * weights - table) * 3 / 4)
    data = replace(run, mesh=MeshConfig(4, 1, 1))
    assert wire(data, "train", (16, 16)) == pytest.approx(2 * weights * 3 / 4)
    tensor = replace(run, mesh=MeshConfig(1, 1, 4))
    states = 4 * 32 * 16 * 4  # rows x tokens x d_model x bytes
    assert wire(tensor, "train", (16, 16)) == pytest.approx(2 * (2 * 2 + 2) * states * 3 / 4)


def test_a_sequence_axis_sends_keys_and_divides_activations():
    run = tiny_run("prefix_lm", d_model=16)
    run = replace(run, model=replace(run.model, remat="full"))
    weights, size = 4 * count(run).params.total, run.model.decoder
    divided = replace(run, mesh=MeshConfig(1, 1, 1, 4))
    keys = 4 * size.n_layers * 2 * size.n_kv_heads * size.head_dim * 4 * 32  # bytes of both, over 4 rows of 32 tokens
    assert wire(divided, "train", (16, 16)) == pytest.approx((3 * keys + 2 * weights) * 3 / 4)
    whole, part = memory.per_device(run), memory.per_device(divided)
    assert (whole.weights, whole.moments, memory.kept(run)) == (part.weights, part.moments, 4 * memory.kept(divided))


def test_meshes_divide_topology_shapes_and_rows():
    run = tiny_run(d_model=16)  # one head, 259 words: 'tensor' divides neither
    v5e = topology("v5e:2x2")
    whole = {MeshConfig(1, 4, 1), MeshConfig(2, 2, 1), MeshConfig(4, 1, 1)}
    both = {MeshConfig(1, 2, 1, 2), MeshConfig(2, 1, 1, 2)}
    assert set(meshes(run, v5e, "decode")) == whole
    assert set(meshes(run, v5e)) == {*whole, *both, MeshConfig(1, 1, 1, 4)}
    fewer = replace(run, train=replace(run.train, batch_size=2))
    assert set(meshes(fewer, v5e)) == {*both, MeshConfig(1, 1, 1, 4)}
    assert not list(meshes(fewer, v5e, "decode"))


def test_a_search_tries_every_policy_and_begins_with_what_fits():
    run = tiny_run(d_model=16)
    v5e = topology("v5e:2x2")
    runs = candidates(run, v5e, "train")
    assert {(one.mesh, one.model.remat) for one in runs} == {
        (mesh, remat) for mesh in meshes(run, v5e) for remat in ("none", "full", "dots")
    }
    assert len(candidates(run, v5e, "decode")) == 3
    long = replace(run, data=replace(run.data, length=2**17), train=replace(run.train, batch_size=4))
    assert long.model.remat == "none"
    assert candidates(long, v5e, "train")[0].model.remat == "full"  # only that fits, by estimate
    scarce = replace(v5e, device=replace(v5e.device, memory_bytes=1))
    assert len(candidates(run, scarce, "train")) == 3 * len(list(meshes(run, v5e)))


def test_a_search_divides_the_state_where_updating_it_takes_long():
    """No product hides what is read and written of it, where each device has all of it."""
    v5e = topology("v5e:16x16")
    run = tiny_run(d_model=2048, batch_size=512, tokens=512 * 2048, checkpoint_every=512 * 2048)
    run = replace(run, data=replace(run.data, length=2048), model=replace(run.model, dtype="bfloat16"))
    first = candidates(run, v5e, "train")[0]
    alone = replace(first, mesh=MeshConfig(256))
    assert rewritten(alone) == 8 * 4 * count(run).params.total  # weights, gradients and two moments, read and written
    assert rewritten(first) < rewritten(alone) / 4
    taken = estimated(v5e.device, first, "train", geometry(first).sequence).overlapped
    assert rewritten(first) / v5e.device.bandwidth < 0.1 * taken < rewritten(alone) / v5e.device.bandwidth

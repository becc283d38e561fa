"""Runs that begin at another's parameters: what is taken over, what it is said to have cost, what is refused."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
from tiny import tiny_run, write_noise

from encdec_jax.compute.ledger import count
from encdec_jax.data import pieces
from encdec_jax.data.cache import write_cache
from encdec_jax.data.corpus import verses
from encdec_jax.errors import UserError
from encdec_jax.sweep.identity import run_id
from encdec_jax.train import loop
from encdec_jax.train.pretrained import begun
from encdec_jax.train.restore import restore
from encdec_jax.train.trainer import Trainer


def leaves(params) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(params)]


def from_(given: str, run=None, **train):
    run = run or tiny_run("causal_lm", updates=10)
    return replace(run, train=replace(run.train, init_from=given, **train))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A root with a run of 20 updates that is done, and its text."""
    root = tmp_path_factory.mktemp("pretrained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENCDEC_CACHE", str(root / "cache"))
        patch.setenv("ENCDEC_RUNS", str(root / "runs"))
        write_noise()
        run = tiny_run("causal_lm", updates=20, keep_every=10 * 128)
        loop.train(run, root / "runs/single/first")
        yield root, run


def test_parameters_are_taken_over_and_their_flops_carried(trained):
    root, source = trained
    run = from_("single/first", seed=5)
    assert run_id(run) != run_id(from_("", seed=5))
    state, spent = begun(run, Trainer(run))
    _, params = restore(root / "runs/single/first")
    for one, other in zip(leaves(state.params), leaves(params), strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(state.step) == 0
    per_update = count(source).train_flops.mask
    assert spent == 20 * per_update
    second = loop.train(run, root / "runs/single/second")
    assert second["pretrain_flops"] == spent
    (folder,) = (p for p in (root / "runs/single/second/checkpoints").glob("*10") if p.is_dir())
    third = from_(str(folder))
    assert begun(third, Trainer(third))[1] == 30 * per_update


def test_a_checkpoint_within_a_run_and_other_meshes(trained):
    root, source = trained
    run = replace(from_("single/first/checkpoints/10"), mesh=replace(source.mesh, data=2, fsdp=2))
    state, spent = begun(run, Trainer(run))
    _, params = restore(root / "runs/single/first", 10)
    for one, other in zip(leaves(state.params), leaves(params), strict=True):
        np.testing.assert_array_equal(one, other)
    assert spent == 10 * count(source).train_flops.mask
    expected = Trainer(run).abstract.params
    for leaf, like in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected), strict=True):
        assert leaf.sharding == like.sharding


def test_what_does_not_fit_is_one_line(trained, tmp_path):
    root, _ = trained

    def refused(run, message):
        with pytest.raises(UserError, match=message) as caught:
            begun(run, Trainer(run))
        assert "\n" not in str(caught.value)

    refused(from_("nowhere"), "train.init_from = 'nowhere' is not accepted: the folder of a run")
    refused(from_("single/first/checkpoints/7"), "a checkpoint that is there: 10, 20")
    wide = from_("single/first", tiny_run("causal_lm", d_model=16))
    refused(wide, r"the same architecture and shape: parameter .* is \(.*8.*\) there, \(.*16.*\) here")
    refused(from_("single/first", tiny_run("enc_dec")), "the same architecture and shape")
    (root / "runs/single/begun").mkdir(exist_ok=True)
    (root / "runs/single/begun/config.json").write_text("{}")
    refused(
        from_("single/begun"), "a run that is done; of one that is not, a checkpoint: single/begun/checkpoints/UPDATE"
    )
    (root / "runs/single/begun/checkpoints").mkdir()
    (root / "runs/single/begun/checkpoints/manifest-0-0-of-1.json").touch()
    refused(from_("single/begun/"), "a checkpoint: single/begun/checkpoints/0")


def test_pieces_that_another_text_trained_are_refused(trained):
    made = pieces.train("spm330", 330, [verse.text for verse in verses("rv1909")[:60]])
    write_cache("pieces", made, ("targets",), {s: [(made.encode("la tierra " * 90),)] for s in ("train", "validation")})
    run = from_("single/first", tiny_run("causal_lm"))
    run = replace(run, data=replace(run.data, task="pieces", vocab="spm330"))
    with pytest.raises(UserError, match=r"data.vocab = 'spm330' of task 'pieces' is not accepted: 'bytes'"):
        begun(run, Trainer(replace(run, model=replace(run.model, vocab_size=400))))

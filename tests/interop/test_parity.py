"""Random models of an independent implementation, through safetensors both ways: logits, gradient, bits."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from flax import nnx
from hf_cases import CASES, GOLDEN, TARGET, VOCAB, last, padded, their_gradients, their_logits, theirs
from support import logits
from test_golden_logits import given

from encdec_jax.interop.convert import from_hf, to_hf
from encdec_jax.interop.huggingface import FAMILIES
from encdec_jax.interop.stored import to_tensors, unused_by
from encdec_jax.interop.tensors import read
from encdec_jax.train.restore import restore

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

SHARDED = ("t5-1.1", "gemma3")
BARTS = ("bart", "mbart", "pegasus", "marian")
GRADIENTS = ("t5", "t5-1.1", "mt5", "umt5", "t5gemma", "t5gemma2", *BARTS, "transformer")
GRADIENTS += ("gpt2", "llama", "gemma3", "modernbert")


@pytest.mark.parametrize("name", CASES)
def test_parity(name: str, tmp_path) -> None:
    model = theirs(name)
    model.save_pretrained(tmp_path / "hf", max_shard_size="20KB" if name in SHARDED else "1GB")
    assert (tmp_path / "hf" / "model.safetensors.index.json").exists() == (name in SHARDED)
    from_hf(tmp_path / "hf", tmp_path / "run")
    run, params = restore(tmp_path / "run")
    streams, (_, written) = given(run.model), padded(TARGET, 2)
    wanted = their_logits(model)
    found = np.asarray(logits(run.model, params, *streams, max(TARGET)))
    expected = wanted.detach().numpy()
    assert np.abs(found - expected)[written].max() <= 1e-4 * np.abs(expected[written]).max()
    golden = json.loads((GOLDEN / f"{name}.json").read_text())["logits"]
    golden = np.array([row.split() for row in golden], float).reshape(-1, VOCAB)
    np.testing.assert_allclose(last(expected).reshape(-1, VOCAB), golden, atol=1e-4 * np.abs(golden).max())

    if name in GRADIENTS:
        cotangent = np.random.default_rng(3).normal(size=expected.shape).astype(np.float32) * written[:, :, None]
        (wanted * torch.tensor(cotangent)).sum().backward()
        grads = jax.grad(lambda p: (logits(run.model, p, *streams, max(TARGET)) * cotangent).sum())(params)
        held = {tuple(map(str, path)): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(grads)}
        kind = json.loads((tmp_path / "hf" / "config.json").read_text())["model_type"]
        family = FAMILIES[kind]
        gradients, theirs_of = to_tensors(family, run.model, held), their_gradients(model)
        assert set(gradients) == {tensor for tensor in theirs_of if not unused_by(family, tensor)}
        for tensor, gradient in gradients.items():
            # A bias of keys adds the same to all scores of a query: its gradient is rounding, of what the values' has.
            most = np.abs(theirs_of[tensor.replace("k_proj.bias", "v_proj.bias")]).max()
            assert np.abs(gradient - theirs_of[tensor]).max() <= 1e-4 * most, tensor

    to_hf(tmp_path / "run", tmp_path / "again")
    one, other = read(tmp_path / "hf"), read(tmp_path / "again")
    assert {n: tensor.tobytes() for n, tensor in one.items()} == {n: tensor.tobytes() for n, tensor in other.items()}
    # And as a run that was trained, which has no record of the folder: config.json is what the model decides.
    (tmp_path / "run" / "hf.json").unlink()
    to_hf(tmp_path / "run", tmp_path / "anew")
    kind = type(model)
    for folder in ("again", "anew"):
        written_for = json.loads((tmp_path / folder / "config.json").read_text())["architectures"]
        assert {*written_for} < {cls.__name__ for cls in kind.__mro__}
        loaded, info = kind.from_pretrained(tmp_path / folder, output_loading_info=True, attn_implementation="eager")
        # What stands beside the run: all of T5Gemma 2 that images need, and sinusoids, which the library makes itself.
        beside = ("vision", "multi_modal", "eoi", "embed_positions") if folder == "anew" else ()
        assert not [one for one in info["missing_keys"] if not any(part in one for part in beside)]
        assert not info["unexpected_keys"]
        same = their_logits(loaded.eval()).detach().numpy()
        np.testing.assert_allclose(same[written], expected[written], atol=1e-5 * np.abs(expected).max())

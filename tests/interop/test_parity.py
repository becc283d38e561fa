"""Random T5s of an independent implementation, through safetensors both ways: logits, gradient, bits."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx
from support import logits

from encdec_jax.interop.convert import from_hf, to_hf, to_tensors
from encdec_jax.interop.huggingface import FAMILIES
from encdec_jax.interop.tensors import read
from encdec_jax.model.streams import Stream
from encdec_jax.train.restore import restore

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

SIZES = {
    "vocab_size": 50,
    "d_model": 24,
    "d_kv": 8,
    "d_ff": 40,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 5,
}
SOURCE, TARGET = (150, 90), (40, 33)  # tokens of each row; distances reach beyond the last bucket


def theirs(version: str) -> object:
    torch.manual_seed(0)
    forward, tied = ("relu", True) if version == "1.0" else ("gated-gelu", False)
    kind = "MT5" if version == "mT5" else "T5"
    config = getattr(transformers, f"{kind}Config")(
        **SIZES, feed_forward_proj=forward, tie_word_embeddings=tied, dropout_rate=0.0
    )
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config).eval()
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(torch.randn(50, 24))
    for name, weight in model.named_parameters():  # norms of ones, and small biases, would hide errors
        if "norm" in name or "bias" in name:
            weight.data += torch.randn_like(weight)
    return model


def padded(lengths: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(seed).integers(2, 50, (len(lengths), max(lengths)))
    shown = np.arange(max(lengths)) < np.array(lengths)[:, None]
    return np.where(shown, ids, 0), shown


def ours(ids: np.ndarray, shown: np.ndarray, first: int, opened: bool) -> Stream:
    position = np.broadcast_to(first + np.arange(ids.shape[1]), ids.shape).astype(np.int32)
    return Stream(ids.astype(np.int32), position, shown.astype(np.int32), np.full(ids.shape, opened))


@pytest.mark.parametrize("version", ["1.0", "1.1", "mT5"])
def test_parity(version: str, tmp_path) -> None:
    model = theirs(version)
    model.save_pretrained(tmp_path / "hf", max_shard_size="20KB" if version == "1.1" else "1GB")
    assert (tmp_path / "hf" / "model.safetensors.index.json").exists() == (version == "1.1")
    from_hf(tmp_path / "hf", tmp_path / "run")
    run, params = restore(tmp_path / "run")
    (source, read_), (target, written) = padded(SOURCE, 1), padded(TARGET, 2)
    given = ours(source, read_, 0, True), ours(target, written, source.shape[1], False)
    wanted = model(
        input_ids=torch.tensor(source),
        attention_mask=torch.tensor(read_.astype(int)),
        decoder_input_ids=torch.tensor(target),
    ).logits
    found = logits(run.model, params, *given, target.shape[1])
    expected = wanted.detach().numpy()
    assert np.abs(np.asarray(found) - expected)[written].max() <= 1e-4 * np.abs(expected[written]).max()

    cotangent = np.random.default_rng(3).normal(size=expected.shape).astype(np.float32) * written[:, :, None]
    (wanted * torch.tensor(cotangent)).sum().backward()
    grads = jax.grad(lambda p: (logits(run.model, p, *given, target.shape[1]) * cotangent).sum())(params)
    for path, leaf in nnx.to_flat_state(params):
        leaf[...] = dict(nnx.to_flat_state(grads))[path][...]

    held = {path: np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(params)}
    gradients = to_tensors(FAMILIES["t5"], run.model, held)
    named = dict(model.named_parameters())
    assert set(gradients) == set(named)
    for name, gradient in gradients.items():
        expected = named[name].grad.numpy()
        assert np.abs(gradient - expected).max() <= 1e-4 * np.abs(expected).max(), name

    to_hf(tmp_path / "run", tmp_path / "again")
    one, other = read(tmp_path / "hf"), read(tmp_path / "again")
    assert {name: tensor.tobytes() for name, tensor in one.items()} == {n: t.tobytes() for n, t in other.items()}
    again = type(model).from_pretrained(tmp_path / "again").eval()
    same = again(
        input_ids=torch.tensor(source),
        attention_mask=torch.tensor(read_.astype(int)),
        decoder_input_ids=torch.tensor(target),
    ).logits
    assert torch.equal(same, wanted)

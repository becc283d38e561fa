"""Another library's logits of small models, of which tests/interop/hf_cases.py wrote a few: checked without it."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hf_cases import APART, CASES, GOLDEN, SOURCE, TARGET, drawn, last, padded
from support import logits

from encdec_jax.interop.huggingface import FAMILIES
from encdec_jax.interop.stored import Values, from_tensors, shape_of, to_tensors
from encdec_jax.model import declare
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.model import Model
from encdec_jax.model.param import leaves
from encdec_jax.model.streams import Stream


def given(config: ModelConfig) -> tuple[Stream | None, Stream]:
    """The ids of `padded` as the streams that a model takes."""

    def one(lengths: tuple[int, ...], seed: int, first: np.ndarray | int, opened: bool) -> Stream:
        ids, shown = padded(lengths, seed)
        position = (shown * (np.arange(ids.shape[1]) + first)).astype(np.int32)  # padding is at 0, as in packed rows
        return Stream(ids.astype(np.int32), position, shown.astype(np.int32), np.full(ids.shape, opened))

    if not config.choices.own_stream:
        return None, one(TARGET, 2, 0, config.choices.source_open)
    return one(SOURCE, 1, 0, True), one(TARGET, 2, np.array(SOURCE)[:, None], False)


def held_by(config: ModelConfig, values: Values) -> nnx.State:
    """Parameters by path as a model holds them."""
    abstract = nnx.to_flat_state(nnx.split(nnx.eval_shape(lambda: Model(config, nnx.Rngs(params=0))))[1])
    return nnx.from_flat_state([(p, leaf.replace(jnp.asarray(values[tuple(map(str, p))]))) for p, leaf in abstract])


@pytest.mark.parametrize("name", CASES)
def test_logits_are_the_other_librarys(name: str) -> None:
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    family = FAMILIES[golden["config"]["model_type"]]
    config = family.read(golden["config"], name in APART)
    declared = dict(leaves(declare.model(config)))
    held = {}
    for tensor, paths, _ in family.tensors(config):
        held[tensor] = drawn(name, tensor, shape_of(family, tensor, [declared[path] for path in paths]))
    values = from_tensors(family, config, held, name)
    assert set(values) == set(declared)
    again = to_tensors(family, config, values)
    assert {n: t.tobytes() for n, t in again.items()} == {n: t.tobytes() for n, t in held.items()}
    found = last(np.asarray(logits(config, held_by(config, values), *given(config), max(TARGET))))
    wanted = np.array([row.split() for row in golden["logits"]], float).reshape(found.shape)
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()

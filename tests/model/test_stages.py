"""Stages: what a place is of, packed as alone; their counts; a block's queries and keys; bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support import SMALL, concat, model_config, stream

from encdec_jax.compute.serving import cache_bytes
from encdec_jax.errors import UserError
from encdec_jax.model.blocks import ends, plans
from encdec_jax.model.declare import edges
from encdec_jax.model.stages import places, pool, pooled, slots

LENGTHS = (7, 4, 11)


def test_a_place_is_a_mean_of_its_documents_tokens() -> None:
    """Of 2 and of 4; the last takes what is left over; twice by 2 is once by 4; padding is of none."""
    parts = [stream(np.zeros((1, n), int), segment=i + 1) for i, n in enumerate(LENGTHS)]
    row = concat(*parts, stream(np.zeros((1, 5), int), first=3, segment=0))
    x = np.random.default_rng(0).normal(size=(1, sum(LENGTHS) + 5, 6)).astype(np.float32)
    for steps in (2, 4):
        want, start = [], 0
        for n in LENGTHS:
            of = x[0, start : start + n]
            want += [
                of[i * steps : None if i == n // steps - 1 else (i + 1) * steps].mean(axis=0) for i in range(n // steps)
            ]
            start += n
        found, held = np.asarray(pool(x, row, steps))[0], pooled(row, steps, 1)
        np.testing.assert_allclose(found[: len(want)], want, atol=1e-6)
        assert not found[len(want) :].any()
        assert len(found) == slots(x.shape[1], steps)
        assert [int((held.segment == i + 1).sum()) for i in range(3)] == [places(n, steps) for n in LENGTHS]
        assert [*np.asarray(held.position)[0, : LENGTHS[0] // steps]] == [i * steps for i in range(LENGTHS[0] // steps)]
    twice = pool(pool(x, row, 2), pooled(row, 2, 2), 2)
    n = min(twice.shape[1], found.shape[0])
    assert n == slots(slots(x.shape[1], 2), 2)
    assert [*np.asarray(pooled(pooled(row, 2, 2), 2, 2).segment)[0]] == [*np.asarray(pooled(row, 4, 4).segment)[0]]


def test_places_of_means_lie_between() -> None:
    assert [places(n, 4) for n in (0, 1, 3, 4, 7, 8)] == [0, 1, 1, 1, 1, 2]
    assert places(7.25, 4) == 1.25
    assert places(7.3, 1) == 7.3


def test_a_row_of_too_many_short_documents_has_no_loss() -> None:
    for n, lost in ((2, False), (1, True)):
        row = concat(*(stream(np.zeros((1, n), int), segment=i + 1) for i in range(6)))
        assert np.isnan(pool(np.ones((1, 6 * n, 2), np.float32), row, 2)).any() == lost


def test_the_first_layer_of_a_stage_asks_what_is_not_yet_pooled() -> None:
    config = model_config("enc_dec", encoder=replace(SMALL, n_layers=6), block="funnel")
    strides = [edge.reads.strides for edge in edges(config) if edge.query == "source"]
    assert strides == [(1, 1), (2, 1), (2, 2), (4, 2), (4, 4)]
    assert [segment.times for segment in plans(config)["encoder"].segments] == [2, 1, 1, 1, 1]
    assert ends(config) == 4
    one = cache_bytes(config, 4, 0, "int8").cross
    assert cache_bytes(config, 23, 0, "int8").cross == 5 * one


@pytest.mark.parametrize(
    ("arch", "changes", "message"),
    [
        ("enc_dec_merged", {}, r"model\.block = 'funnel' is not accepted: 'standard', because enc_dec_merged reads"),
        (
            "causal_lm",
            {},
            r"model\.block = 'funnel' is not accepted: 'standard', because causal_lm does not read final",
        ),
        ("layerwise", {}, r"model\.block = 'funnel' is not accepted: 'standard', because layerwise does not read"),
        ("enc_dec_causal", {}, r"because enc_dec_causal does not read final states of an encoder that sees its whole"),
        ("enc_dec", {"encoder": replace(SMALL, n_layers=4)}, r"model\.encoder\.n_layers = 4 .*: a multiple of 3"),
        ("enc_dec", {"encoder": replace(SMALL, n_layers=3, window=3)}, r"model\.encoder\.window = 3 .*: 0, because"),
        ("enc_dec", {"encoder": replace(SMALL, n_layers=3), "attention": "splash"}, r"model\.attention = 'splash'"),
    ],
)
def test_bad_input(arch: str, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        edges(model_config(arch, block="funnel", **changes))

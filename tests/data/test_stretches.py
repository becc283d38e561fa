"""Rows of whole documents and of longer texts: what is scored, once, behind what."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from tiny import tiny_run

from encdec_jax.data import stretches
from encdec_jax.data.cache import TokenCache, write_cache
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.errors import UserError

VOCAB = ByteVocab()
LENGTHS = (40, 3, 16, 17, 18, 75, 0, 33)
RUN = tiny_run("enc_dec")


@pytest.fixture
def cache(folders):
    random = np.random.default_rng(0)
    documents = [(random.integers(100, 126, n),) for n in LENGTHS]
    write_cache("texts", VOCAB, ("targets",), {"train": documents, "validation": documents})
    return TokenCache.open("texts", "bytes")


def documents_of(cache):
    offsets = np.asarray(cache.offsets("validation", "targets"))
    tokens = np.asarray(cache.tokens("validation", "targets")[:])
    return [tokens[a:b] for a, b in pairwise(offsets.tolist())]


@pytest.mark.parametrize("arch", ["enc_dec", "prefix_lm"])
@pytest.mark.parametrize("block", [1, 3, 4096])
def test_each_token_behind_the_prefix_is_scored_once_in_its_document(cache, monkeypatch, arch, block):
    monkeypatch.setattr(stretches, "BLOCK", block)
    run = tiny_run(arch)
    prefix, suffix = run.evaluate.prefix, run.evaluate.suffix
    scored: dict[int, list[int]] = {}
    texts: dict[int, str] = {}
    for some in stretches.document_rows(cache, run.model.choices, "validation", run.evaluate):
        for row, number in enumerate(some.document.tolist()):
            own = documents_of(cache)[number]
            there = some.rows.weights[row] > 0
            before = len(scored.setdefault(number, []))
            scored[number] += some.rows.labels[row][there].tolist()
            source = some.rows.target if some.rows.source is None else some.rows.source
            np.testing.assert_array_equal(source.tokens[row][:prefix], own[before:][:prefix])
            first = 0 if arch == "enc_dec" else prefix
            assert some.rows.target.tokens[row][first] == own[before + prefix]
            assert some.nbytes[row] == VOCAB.token_bytes(some.rows.labels[row][there]).sum()
            assert there.sum() <= suffix
        texts |= some.text
    long = {i: own for i, own in enumerate(documents_of(cache)) if len(own) > prefix + 1}
    assert scored == {i: own[prefix + 1 :].tolist() for i, own in long.items()}
    assert texts.keys() == long.keys()
    assert len(set(texts.values())) > 1


def test_labels_are_the_same_at_every_length_and_prefix(cache):
    evaluate = replace(RUN.evaluate, windows=3, suffix=8)
    seen = {}
    for length, prefix in ((20, 4), (40, 4), (40, 32), (60, 1)):
        rows, nbytes = stretches.longer_rows(cache, RUN.model.choices, "validation", evaluate, length, prefix, 60)
        assert rows.source.tokens.shape == (3, prefix)
        assert rows.target.tokens.shape == (3, length - prefix)
        seen[length, prefix] = rows.labels.tolist(), nbytes.tolist()
        joined = np.concatenate([rows.source.tokens, rows.target.tokens], axis=1)
        np.testing.assert_array_equal(joined[:, 1 - 8 :], rows.labels[:, :-1])
    assert len({str(one) for one in seen.values()}) == 1
    with pytest.raises(UserError, match="lengths = 300 is not accepted: tokens of which split 'validation' has two"):
        stretches.longer_rows(cache, RUN.model.choices, "validation", evaluate, 300, 4, 300)

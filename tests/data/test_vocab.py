"""Vocabularies: what goes in comes out, and every byte of text is counted once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from encdec_jax.data.corpus import verses
from encdec_jax.data.pieces import train
from encdec_jax.data.vocab import EOS, PAD, UNK, ByteVocab, SentencePieceVocab
from encdec_jax.data.vocab_file import MODEL_FILE, vocab_in
from encdec_jax.errors import UserError

TEXT = [verse.text for verse in verses("kjv")[:1500]]
BYTES, PIECES = ByteVocab(), train("spm400", 400, TEXT)
VOCABS = pytest.mark.parametrize("vocab", [BYTES, PIECES], ids=["bytes", "spm"])

# U+2581 is SentencePiece's own mark for a space, and NUL ends its strings.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00▁"))


@VOCABS
@given(text=texts)
@example(text="  two  spaces \n\t and a rare ☃  ")
def test_round_trip(vocab, text):
    ids = vocab.encode(text)
    assert vocab.decode(ids) == text
    assert vocab.token_bytes(ids).sum() == len(text.encode())
    assert all(UNK < i < vocab.size for i in ids)


@VOCABS
def test_specials_and_sentinels_stand_for_no_text(vocab):
    specials = [PAD, EOS, UNK, vocab.sentinel(0), vocab.sentinel(7)]
    assert vocab.token_bytes(np.array([specials])).tolist() == [[0] * 5]
    assert vocab.decode([PAD, EOS, vocab.sentinel(0), vocab.sentinel(7)]) == ""
    assert [vocab.sentinel(0), vocab.sentinel(7)] == [vocab.size, vocab.size + 7]


def test_bytes_are_their_value_plus_three():
    assert BYTES.size == 259
    assert BYTES.encode("aé") == [97 + 3, 0xC3 + 3, 0xA9 + 3]
    assert BYTES.token_bytes(np.arange(259)).tolist() == [0, 0, 0] + [1] * 256


def test_a_character_cut_in_two_shows():
    assert BYTES.decode(BYTES.encode("né")[:-1]) == "n\N{REPLACEMENT CHARACTER}"


def test_pieces_are_fewer_than_bytes_and_trained_the_same_every_time():
    assert PIECES.size == 400
    assert len(PIECES.encode(TEXT[0])) < 0.7 * len(TEXT[0])
    assert train("spm400", 400, TEXT).model == PIECES.model


def test_training_refuses_more_pieces_than_the_text_gives():
    with pytest.raises(UserError, match="vocab_size = 4000"):
        train("spm4000", 4000, ["one line"])


def test_vocab_in_a_folder(tmp_path):
    assert isinstance(vocab_in(tmp_path, "bytes"), ByteVocab)
    (tmp_path / MODEL_FILE).write_bytes(PIECES.model)
    vocab = vocab_in(tmp_path, "spm400")
    assert (vocab.name, vocab.encode(TEXT[3])) == ("spm400", PIECES.encode(TEXT[3]))


def test_a_file_that_is_no_model_is_refused():
    with pytest.raises(UserError, match="no SentencePiece model"):
        SentencePieceVocab("spm9", b"nonsense")

"""Vocabularies of files: what a text becomes, and that every byte of it is counted once."""

from __future__ import annotations

import io
import itertools
import re

import numpy as np
import pytest
import sentencepiece
from hypothesis import assume, given
from hypothesis import strategies as st

from encdec_jax.data.cache import TokenCache
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.corpus import verses
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.data.objectives.objective import frame_of
from encdec_jax.data.objectives.orders import sentences_of
from encdec_jax.data.prepare import prepare
from encdec_jax.data.vocab import EOS, UNK
from encdec_jax.data.vocab_file import vocab_of
from encdec_jax.errors import UserError

TEXT = [verse.text for verse in verses("kjv")[:1000]]
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00▁"))


def t5_like() -> bytes:
    """As T5's spiece.model: it normalises, puts a space in front, and knows not all letters."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT), model_writer=model, vocab_size=400, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
        num_threads=1, minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


def byte_level() -> bytes:
    """As GPT-2's tokenizer.json."""
    tokenizers = pytest.importorskip("tokenizers", reason="the extra [tasks] is not installed")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False
    )
    made.train_from_iterator(TEXT, trainer)
    return made.to_str().encode()


def pieces_like() -> bytes:
    """As T5's tokenizer.json: pieces with a space in front, ids of pad, eos and unk as T5's."""
    tokenizers = pytest.importorskip("tokenizers", reason="the extra [tasks] is not installed")
    made = tokenizers.Tokenizer(tokenizers.models.Unigram())
    made.normalizer = tokenizers.normalizers.NFKC()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.decoder = tokenizers.decoders.Metaspace()
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=400, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(TEXT, trainer)
    return made.to_str().encode()


def across_spaces() -> bytes:
    """Bytes whose tokens hold white space in their middle and at their end, as those of Llama 3 and Qwen do."""
    tokenizers = pytest.importorskip("tokenizers", reason="the extra [tasks] is not installed")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(["a.\nb! c? ad. "] * 99 + TEXT[:100], trainer)
    return made.to_str().encode()


@pytest.fixture(
    scope="module", params=[t5_like, byte_level, pieces_like, across_spaces], ids=lambda make: make.__name__
)
def vocab(request):
    return vocab_of("some", request.param())


@given(text=st.text(st.sampled_from("ab.?! \n3é"), min_size=2, max_size=60))
def test_sentences_of_tokens_are_those_of_the_text(vocab, text):
    """Each sentence's end in the text is one behind the token that holds it."""
    text = "".join(letter for letter in text if UNK not in vocab.encode(f"a{letter}"))  # what is unknown is no text
    ids = [*vocab.encode(text), EOS]
    assume(UNK not in ids)
    frame = frame_of(objective_of(ObjectiveConfig("gap_sentences")), vocab, DataConfig(length=64), 1)
    spelled = [vocab.decode([*ids[:n], EOS]) for n in range(len(ids))]  # what is in front of each token
    ends = [found.end() for found in re.finditer(r"[.?!](?=\s|$(?!\n))", spelled[-1], re.ASCII)]
    behind = [any(len(a) < end <= len(b) for end in ends) for a, b in itertools.pairwise(spelled)]
    assert sentences_of(np.array([ids]), frame)[0].tolist() == [0, *np.cumsum(behind)]


@given(text=texts)
def test_the_bytes_of_a_document_are_counted_once(vocab, text):
    """A space in front is taken away again by the end of the document."""
    ids = vocab.encode(text)
    known = [i for i in ids if i != UNK]
    assert all(UNK <= i < vocab.size for i in ids)
    if vocab.exact:
        assert vocab.decode(ids) == text
    if ids:
        assert vocab.token_bytes([*ids, EOS]).sum() == len(vocab.decode(known).encode())
    assert vocab.token_bytes([[vocab.sentinel(0), vocab.sentinel(9)]]).tolist() == [[0, 0]]


def test_a_word_is_kept_and_only_gpt2s_are_exact(vocab):
    text = TEXT[0]
    assert vocab.decode([*vocab.encode(text), EOS, vocab.sentinel(0)]) == text
    assert vocab.exact == (vocab.token_bytes([EOS]) == 0)
    if not vocab.exact:
        assert UNK in vocab.encode("☃ {")


def test_ids_of_a_tokenizer_are_moved_above_the_special_ones_where_they_are_others():
    moved, kept = vocab_of("a", byte_level()), vocab_of("b", pieces_like())
    assert moved.token_bytes([3]) == 0  # <|endoftext|>, which was 0
    assert moved.encode("<|endoftext|>") == [3]
    assert kept.decode(kept.encode("the")) == "the"


def test_the_unknown_of_a_tokenizer_is_ours_whatever_its_id():
    tokenizers = pytest.importorskip("tokenizers", reason="the extra [tasks] is not installed")
    made = tokenizers.Tokenizer(tokenizers.models.Unigram([("<unk>", 0.0), ("▁a", -1.0), ("b", -1.0)], unk_id=0))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.decoder = tokenizers.decoders.Metaspace()
    vocab = vocab_of("moved", made.to_str().encode())
    assert vocab.encode("ab☃") == [4, 5, UNK]
    assert vocab.decode([4, 5, UNK]) == "ab"


def test_prepare_takes_a_file_and_says_what_it_loses(folders, capsys):
    (folders / "spiece.model").write_bytes(t5_like())
    (folders / "a.txt").write_text("\n".join(TEXT) + "\n☃  two" * 9000)
    prepare("mine", "spiece.model", text="a.txt")
    out = capsys.readouterr().out
    assert "the vocabulary is not exact: it changed " in out
    name = next(line for line in out.splitlines() if "data.vocab=" in line).partition("data.vocab=")[2].split(",")[0]
    assert name.startswith("spiece-")
    cache = TokenCache.open("mine", name)
    tokens, offsets = np.asarray(cache.tokens("train", "targets")), cache.offsets("train", "targets")
    assert (tokens == UNK).any()
    for first, last in itertools.pairwise(offsets):
        known = [i for i in tokens[first:last].tolist() if i != UNK]
        assert cache.vocab.token_bytes(known).sum() == len(cache.vocab.decode(known).encode())
    prepare("mine", "spiece.model", text="a.txt")
    assert capsys.readouterr().out.startswith("already prepared: ")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("gone.model", None, "can't read vocab gone.model: No such file"),
        ("a.model", b"x", "its file is no SentencePiece model"),
        ("a.json", b"{}", "its file is no tokenizer.json"),
        ("a.json", b'{"model": ', "its file is no tokenizer.json"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused(folders, name, data, message):
    pytest.importorskip("tokenizers", reason="the extra [tasks] is not installed")
    if data is not None:
        (folders / name).write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        prepare("bible_en", name)
    assert "\n" not in str(caught.value)


def test_tokens_that_are_spelled_otherwise_are_refused():
    tokenizers = pytest.importorskip("tokenizers", reason="the extra [tasks] is not installed")
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    with pytest.raises(UserError, match="these are WordPiece's"):
        vocab_of("bert", made.to_str().encode())

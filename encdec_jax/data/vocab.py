"""Vocabularies: text to token ids and back, and how many bytes of text each id stands for.

All of them put padding at id 0, the end of a document at 1 and the unknown at 2, as T5 does (arXiv 1910.10683), and
leave the ids from `size` on to an objective's sentinels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from sentencepiece import SentencePieceProcessor

from encdec_jax.errors import UserError, require

PAD, EOS, UNK = 0, 1, 2
MODEL_FILE = "vocab.model"  # a SentencePiece model, inside the folder of the tokens it made


class Vocab(Protocol):
    """What every vocabulary gives.

    Attributes:
      name: as `data.vocab` has it.
      size: ids without sentinels.
      model: the SentencePiece model's bytes, or None where the vocabulary needs no file.
    """

    name: str
    size: int
    pad_id: int
    eos_id: int
    model: bytes | None

    def encode(self, text: str) -> list[int]:
        """Ids of the text, without an end-of-document token."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids; padding, end of document and sentinels stand for no text."""

    def token_bytes(self, ids: ArrayLike) -> np.ndarray:
        """UTF-8 bytes of text that each id stands for: int64 of the shape of `ids`; 0 for ids without text."""

    def sentinel(self, index: int) -> int:
        """Id of an objective's sentinel number `index`, counted from 0."""


class ByteVocab:
    """UTF-8 bytes, each one's id its value + 3: the ids of seqio's ByteVocabulary (ByT5, arXiv 2105.13626)."""

    size = 259
    pad_id = PAD
    eos_id = EOS
    model: bytes | None = None

    def __init__(self, name: str = "bytes") -> None:
        self.name = name

    def encode(self, text: str) -> list[int]:
        """Ids of the text, without an end-of-document token."""
        return [byte + 3 for byte in text.encode()]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids; a character cut in two shows as a replacement character."""
        return bytes(int(i) - 3 for i in ids if 3 <= i < self.size).decode(errors="replace")

    def token_bytes(self, ids: ArrayLike) -> np.ndarray:
        """1 for the id of a byte, 0 for any other: int64 of the shape of `ids`."""
        ids = np.asarray(ids)
        return ((ids >= 3) & (ids < self.size)).astype(np.int64)

    def sentinel(self, index: int) -> int:
        """Id of an objective's sentinel number `index`, counted from 0."""
        return self.size + index


class SentencePieceVocab:
    """The pieces of a SentencePiece model.

    Those that `prepare` trains neither normalise text nor add a space in front, and fall back to bytes, so they lose
    nothing and `token_bytes` of a text adds up to its bytes. A model that does normalise, as T5's, gives the bytes of
    the normalised text, and none for the unknown.

    Args:
      name: as `data.vocab` has it.
      model: a serialised SentencePiece model.

    Raises:
      UserError: it is no such model, or pad, eos and unk are not 0, 1 and 2.
    """

    pad_id = PAD
    eos_id = EOS

    def __init__(self, name: str, model: bytes) -> None:
        self.name = name
        self.model: bytes | None = model
        try:
            pieces = SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise UserError(f"vocab = {name!r} is not accepted: its file is no SentencePiece model") from error
        special = (pieces.pad_id(), pieces.eos_id(), pieces.unk_id())
        require(special == (PAD, EOS, UNK), f"(pad, eos, unk) of vocab {name!r}", special, "(0, 1, 2)")
        self._pieces = pieces
        self.size = pieces.get_piece_size()
        self._bytes = np.array([self._text_bytes(i) for i in range(self.size)] + [0], np.int64)

    def encode(self, text: str) -> list[int]:
        """Ids of the text, without an end-of-document token."""
        return self._pieces.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids; padding, end of document and sentinels stand for no text."""
        return self._pieces.decode([int(i) for i in ids if UNK <= i < self.size])

    def token_bytes(self, ids: ArrayLike) -> np.ndarray:
        """UTF-8 bytes of text that each id stands for: int64 of the shape of `ids`; 0 for ids without text."""
        return self._bytes[np.minimum(np.asarray(ids, np.int64), self.size)]

    def sentinel(self, index: int) -> int:
        """Id of an objective's sentinel number `index`, counted from 0."""
        return self.size + index

    def _text_bytes(self, index: int) -> int:
        pieces = self._pieces
        if pieces.is_byte(index):
            return 1
        if pieces.is_control(index) or pieces.is_unknown(index) or pieces.is_unused(index):
            return 0
        return len(pieces.id_to_piece(index).replace("▁", " ").encode())


def vocab_in(folder: Path, name: str) -> Vocab:
    """The vocabulary of the tokens in a cache's folder: its SentencePiece model if it holds one, else bytes.

    Raises:
      UserError: the model file is damaged.
    """
    file = folder / MODEL_FILE
    return SentencePieceVocab(name, file.read_bytes()) if file.exists() else ByteVocab(name)

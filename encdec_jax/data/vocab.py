"""Vocabularies: text to token ids and back, and how many bytes of text each id stands for.

All of them put padding at id 0, the end of a document at 1 and the unknown at 2, as T5 does (arXiv 1910.10683), and
leave the ids from `size` on to an objective's sentinels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from sentencepiece import SentencePieceProcessor

from encdec_jax.errors import UserError, require

PAD, EOS, UNK = 0, 1, 2
PROBE = "two  spaces \ufb01\u00c5\n{\u2603"  # that normalisation changes, and rare letters


class Vocab(Protocol):
    """What every vocabulary gives.

    Attributes:
      name: as `data.vocab` has it.
      size: ids without sentinels.
      model: the bytes of its file, or None where the vocabulary needs none.
      exact: whether it keeps every text as it is. One that does not normalises text before it cuts it into tokens, and
        may know no token for a letter; it counts the bytes of what it makes of the text, none for the unknown.
    """

    name: str
    size: int
    pad_id: int
    eos_id: int
    model: bytes | None
    exact: bool

    def encode(self, text: str) -> list[int]:
        """Ids of the text, without an end-of-document token."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids; padding, end of document and sentinels stand for no text."""

    def token_bytes(self, ids: ArrayLike) -> np.ndarray:
        """UTF-8 bytes of text that each id stands for: int64 of the shape of `ids`; 0 for ids without text.

        Over a document and its end they add up to its bytes: where a vocabulary puts a space in front of a text, the
        end of the document takes its byte away.
        """

    def sentinel(self, index: int) -> int:
        """Id of an objective's sentinel number `index`, counted from 0."""


class ByteVocab:
    """UTF-8 bytes, each one's id its value + 3: the ids of seqio's ByteVocabulary (ByT5, arXiv 2105.13626)."""

    size = 259
    pad_id = PAD
    eos_id = EOS
    model: bytes | None = None
    exact = True

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


class SpelledVocab:
    """A vocabulary that a file holds: each id is spelled as bytes of text, and a text is the spellings of its ids.

    Args:
      name: as `data.vocab` has it.
      model: the file.
      spellings: of each id, b"" for those that stand for no text.
      encode: gives the ids of a text.
    """

    pad_id = PAD
    eos_id = EOS

    def __init__(self, name: str, model: bytes, spellings: list[bytes], encode: Callable[[str], list[int]]) -> None:
        self.name = name
        self.model: bytes | None = model
        self.size = len(spellings)
        self._encode, self._spellings = encode, spellings
        self._bytes = np.array([*map(len, spellings), 0], np.int64)
        self._bytes[EOS] = 1 - self.token_bytes(encode("a")).sum()  # less the space in front, if one is put there
        self.exact = self.decode(encode(PROBE)) == PROBE and not self._bytes[EOS]

    def encode(self, text: str) -> list[int]:
        """Ids of the text, without an end-of-document token."""
        return self._encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids; padding, end of document, the unknown and sentinels stand for no text."""
        text = b"".join(self._spellings[i] for i in ids if UNK < i < self.size).decode(errors="replace")
        return text.removeprefix(" ") if self._bytes[EOS] else text

    def token_bytes(self, ids: ArrayLike) -> np.ndarray:
        """UTF-8 bytes of text that each id stands for: int64 of the shape of `ids`; 0 for ids without text."""
        return self._bytes[np.minimum(np.asarray(ids, np.int64), self.size)]

    def sentinel(self, index: int) -> int:
        """Id of an objective's sentinel number `index`, counted from 0."""
        return self.size + index


class SentencePieceVocab(SpelledVocab):
    """The pieces of a SentencePiece model.

    Those that `prepare` trains neither normalise text nor add a space in front, and fall back to bytes, so they lose
    nothing. T5's does all that.

    Args:
      name: as `data.vocab` has it.
      model: a serialised SentencePiece model.

    Raises:
      UserError: it is no such model, or pad, eos and unk are not 0, 1 and 2.
    """

    def __init__(self, name: str, model: bytes) -> None:
        try:
            pieces = SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise UserError(f"vocab = {name!r} is not accepted: its file is no SentencePiece model") from error
        special = (pieces.pad_id(), pieces.eos_id(), pieces.unk_id())
        require(special == (PAD, EOS, UNK), f"(pad, eos, unk) of vocab {name!r}", special, "(0, 1, 2)")

        def spelling(index: int) -> bytes:
            piece = pieces.id_to_piece(index)
            if pieces.is_byte(index):
                return bytes([int(piece[1:-1], 16)])
            silent = pieces.is_control(index) or pieces.is_unknown(index) or pieces.is_unused(index)
            return b"" if silent else piece.replace("▁", " ").encode()

        super().__init__(name, model, list(map(spelling, range(pieces.get_piece_size()))), pieces.encode)

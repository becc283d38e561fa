"""The vocabulary that a file holds, whichever library reads it."""

from __future__ import annotations

from pathlib import Path

from encdec_jax.data.tokenizer import TokenizerVocab
from encdec_jax.data.vocab import ByteVocab, SentencePieceVocab, Vocab

MODEL_FILE = "vocab.model"  # what a vocabulary was read from, inside the folder of the tokens it made


def vocab_of(name: str, model: bytes) -> Vocab:
    """The vocabulary of a file: a SentencePiece model, or a tokenizer.json.

    Raises:
      UserError: the file is neither, or its library is not installed.
    """
    if model.lstrip().startswith(b"{"):
        return TokenizerVocab(name, model)
    return SentencePieceVocab(name, model)


def vocab_in(folder: Path, name: str) -> Vocab:
    """The vocabulary of the tokens in a cache's folder: that of its model file if it holds one, else bytes.

    Raises:
      UserError: the model file is damaged, or its library is not installed.
    """
    file = folder / MODEL_FILE
    return vocab_of(name, file.read_bytes()) if file.exists() else ByteVocab(name)

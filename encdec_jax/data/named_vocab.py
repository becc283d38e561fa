"""The vocabularies that `prepare` can be asked for by name or file, and whether they keep a text."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from encdec_jax.data.vocab import UNK, ByteVocab, Vocab
from encdec_jax.data.vocab_file import vocab_of
from encdec_jax.errors import UserError, require
from encdec_jax.files import expanded

OWN = "own"  # the vocabulary of a task that makes token ids itself
_ENDINGS = (".model", ".json")
SMALLEST = 300  # pieces of a SentencePiece vocabulary: pad, eos, unk, 256 bytes, and some to learn


def vocab_name(vocab: str, vocab_size: int | None) -> str:
    """The one name of a vocabulary, as `data.vocab` has it: 'bytes', 'own', 'spm' and its size, or a file's and hash.

    Raises:
      UserError: there is no such vocabulary or file, or the size is missing, too small or one too many.
    """
    accepted = "'bytes', 'own', 'spm' with a vocab_size, as in 'spm4096', or a file FILE.model or FILE.json"
    match = re.fullmatch(r"bytes|own|spm([1-9][0-9]*)?", vocab)
    if match is None and vocab.endswith(_ENDINGS):
        require(vocab_size is None, "vocab_size", vocab_size, f"none, because vocab {vocab!r} has a size of its own")
        return f"{Path(vocab).stem}-{hashlib.sha256(_read(vocab)).hexdigest()[:8]}"
    if match is None:
        raise UserError(f"vocab = {vocab!r} is not accepted: {accepted}")
    if vocab in ("bytes", OWN):
        require(vocab_size is None, "vocab_size", vocab_size, f"none, because vocab {vocab!r} has a size of its own")
        return vocab
    size = int(match[1]) if match[1] else vocab_size
    if size is None:
        raise UserError(f"vocab = {vocab!r} is not accepted: {accepted}")
    require(vocab_size in (None, size), "vocab_size", vocab_size, f"{size}, because vocab = {vocab!r}")
    require(size >= SMALLEST, "vocab_size", size, f"at least {SMALLEST} pieces")
    return f"spm{size}"


def _read(vocab: str) -> bytes:
    try:
        return expanded(vocab).read_bytes()
    except OSError as error:
        raise UserError(f"can't read vocab {vocab}: {error.strerror}") from error


def vocab_file(name: str, vocab: str) -> Vocab | None:
    """The vocabulary of a file, under a name; None if `vocab` is none.

    Raises:
      UserError: the file can't be read, or holds no vocabulary.
    """
    return vocab_of(name, _read(vocab)) if vocab.endswith(_ENDINGS) else None


@dataclass
class Lossy:
    """What a vocabulary that is not exact makes of texts: how many it changed, tokens in all and unknown ones."""

    texts: int = 0
    changed: int = 0
    tokens: int = 0
    unknown: int = 0

    def __str__(self) -> str:
        return (
            f"the vocabulary is not exact: it changed {self.changed:,} of {self.texts:,} texts, and knows no token at"
            f" {self.unknown:,} of {self.tokens:,} places, which count no byte"
        )


def checked(ids: list[int], text: str, vocab: Vocab, where: str, lossy: Lossy) -> list[int]:
    """The ids, if they stand for the text and all its bytes: bits per byte divides by what they stand for.

    Of a vocabulary that is not exact, they must stand for what it makes of the text; `lossy` counts what is lost.

    Raises:
      UserError: they don't.
    """
    if isinstance(vocab, ByteVocab) and vocab.name != OWN:
        return ids
    kept = text if vocab.exact else vocab.decode(_known(vocab.encode(text)))
    known = ids if vocab.exact else _known(ids)
    found, size = vocab.decode(known), int(vocab.token_bytes(known).sum())
    if ids and not vocab.exact:
        size += int(vocab.token_bytes([vocab.eos_id]).sum())
        lossy.texts += 1
        lossy.changed += kept != text
        lossy.tokens += len(ids)
        lossy.unknown += len(ids) - len(known)
    if found == kept and size == len(kept.encode()):
        return ids
    lost = next((a for a, b in zip_longest(kept, found) if a != b), None)
    what = f"{len(kept.encode())} bytes of text became {size}" if lost is None else f"{lost!r} is not kept"
    raise UserError(f"{where} is not accepted in vocab {vocab.name!r}: {what}; 'bytes' keeps every text")


def _known(ids: list[int]) -> list[int]:
    return [i for i in ids if i != UNK]

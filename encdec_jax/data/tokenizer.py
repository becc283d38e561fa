"""Hugging Face's tokenizer.json as a vocabulary. The library `tokenizers` is loaded only here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from encdec_jax.data.vocab import EOS, PAD, UNK, SpelledVocab
from encdec_jax.errors import UserError

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class TokenizerVocab(SpelledVocab):
    """The tokens of a tokenizer.json that are spelled in bytes, as GPT-2's, or in SentencePiece's pieces, as T5's.

    Its ids stay as they are where pad, eos and unk are 0, 1 and 2; else all are moved up by 3.

    Attributes:
      moved: what its ids are more than the file's.

    Args:
      name: as `data.vocab` has it.
      model: the file.

    Raises:
      UserError: the library is not installed, the file is no tokenizer.json, or spells its tokens in another way.
    """

    def __init__(self, name: str, model: bytes) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            needs = "needs tokenizers, which is not installed: in a checkout, pip install '.[tasks]'"
            raise UserError(f"vocab {name!r} {needs}") from error
        try:
            known, data = Tokenizer.from_str(model.decode()), json.loads(model)
        except Exception as error:  # the library raises no narrower one
            raise UserError(f"vocab = {name!r} is not accepted: its file is no tokenizer.json ({error})") from error
        known.no_truncation()
        known.no_padding()
        special = [known.token_to_id(token) for token in ("<pad>", "</s>", "<unk>")]
        moved = 0 if special == [PAD, EOS, UNK] else UNK + 1
        token = data["model"].get("unk_token")
        unknown = data["model"].get("unk_id") if token is None else known.token_to_id(token)
        spelled, added = _spelling(name, data), known.get_added_tokens_decoder()

        def spelling(index: int) -> bytes:
            token = known.id_to_token(index)
            if token is None or index == unknown or (index in added and added[index].special):
                return b""
            return token.encode() if index in added else spelled(token)

        def encode(text: str) -> list[int]:
            ids = known.encode(text, add_special_tokens=False).ids
            return [UNK if i == unknown else i + moved for i in ids]

        spellings = [b""] * moved + [spelling(i) for i in range(1 + max(known.get_vocab().values()))]
        super().__init__(name, model, spellings, encode)
        self.moved = moved


def _spelling(name: str, data: dict[str, Any]) -> Callable[[str], bytes]:
    """How a token is spelled: gives its bytes."""
    parts = json.dumps([data.get("decoder"), data.get("pre_tokenizer")])
    if '"ByteLevel"' in parts:
        shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
        hidden = [byte for byte in range(256) if byte not in shown]
        byte_of = {chr(b): b for b in shown} | {chr(256 + n): b for n, b in enumerate(hidden)}
        return lambda token: bytes(byte_of[letter] for letter in token)
    if '"Metaspace"' in parts or "\\u2581" in parts:
        falls_back = bool(data["model"].get("byte_fallback"))

        def piece(token: str) -> bytes:
            byte = _BYTE.fullmatch(token) if falls_back else None
            return bytes([int(byte[1], 16)]) if byte else token.replace("\u2581", " ").encode()

        return piece
    kind = data["model"].get("type")
    raise UserError(
        f"vocab = {name!r} is not accepted: tokens in bytes, as GPT-2's, or in pieces, as T5's; these are {kind}'s"
    )

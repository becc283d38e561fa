"""Orders that a source may have what it keeps in, and where sentences end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from encdec_jax.data.objectives.objective import Frame, draws

LANE = 2  # of the draws


@dataclass(frozen=True)
class Order:
    """Another order of a window's tokens.

    Attributes:
      kind: all 'tokens' shuffled (T5's deshuffling, arXiv 1910.10683, section 3.3.1); 'sentences' shuffled; or the text
        'rotated' to begin at a random token (both BART, arXiv 1910.13461, section 2.2).
    """

    kind: Literal["tokens", "sentences", "rotated"]

    @property
    def sentences(self) -> bool:
        """Whether it asks where sentences end."""
        return self.kind == "sentences"

    def of(self, text: np.ndarray, places: np.ndarray, seed: int, frame: Frame) -> np.ndarray:
        """Texts [n, L] in the orders drawn for their places."""
        length = text.shape[1]
        if self.kind == "rotated":
            first = (draws(seed, places, 1, LANE) * length).astype(np.int64)
            return np.take_along_axis(text, (first + np.arange(length)) % length, axis=1)
        keys = draws(seed, places, length, LANE)
        if self.kind == "sentences":
            keys = np.take_along_axis(keys, sentences_of(text, frame), axis=1)
        return np.take_along_axis(text, keys.argsort(axis=1, kind="stable"), axis=1)


def sentences_of(text: np.ndarray, frame: Frame) -> np.ndarray:
    """The number of each token's sentence, from 0: int64 [n, L].

    A sentence ends behind a full stop, a question or an exclamation mark that ASCII's white space or the end of a text
    follows, and behind the end of a text; where a token holds more than that, behind the token. A window's ends cut
    sentences.

    The texts of an id and of the next one decide it, in any vocabulary: offsets stored by `prepare` would say the same
    of every token, and be cut by windows likewise.
    """
    end = text == frame.eos
    known = text < len(frame.closes)
    ids = np.where(known, text, 0)
    closes, opens = frame.closes[ids] & known, frame.spaced[ids] & known | end
    ends = (end | frame.within[ids] & known)[:, :-1] | (closes[:, :-1] & opens[:, 1:])
    return np.pad(ends.cumsum(axis=1), ((0, 0), (1, 0)))

"""A token cache in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from encdec_jax.data.vocab import ByteVocab

Tokens = dict[str, dict[str, list[list[int]]]]  # split -> feature -> documents


@dataclass
class FakeCache:
    """As `encdec_jax.data.cache.TokenCache`, from documents given as lists of ids."""

    documents: Tokens
    folder = None
    vocab: ByteVocab = field(default_factory=ByteVocab)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.documents)

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(self.documents["train"])

    def tokens(self, split: str, feature: str) -> np.ndarray:
        return np.concatenate([np.array(doc, np.uint16) for doc in self.documents[split][feature]])

    def offsets(self, split: str, feature: str) -> np.ndarray:
        return np.cumsum([0, *map(len, self.documents[split][feature])])


def text_cache(train: int = 2000, validation: int = 700, seed: int = 0) -> FakeCache:
    """Documents of random letters, each ended by 1, about as many tokens as asked."""
    rng = np.random.default_rng(seed)

    def documents(total: int) -> list[list[int]]:
        cuts = np.sort(rng.integers(0, total, 5))
        return [[*part.tolist(), 1] for part in np.split(rng.integers(100, 125, total - 6), cuts)]

    return FakeCache({"train": {"targets": documents(train)}, "validation": {"targets": documents(validation)}})


def pair_cache(n: int = 60, longest: int = 14, seed: int = 0) -> FakeCache:
    """n pairs a split, each of its own ids, with sources and targets of 2 .. longest tokens that end with 1."""
    rng = np.random.default_rng(seed)

    def documents() -> list[list[int]]:
        return [[*rng.integers(3, 259, rng.integers(1, longest)).tolist(), 1] for _ in range(n)]

    return FakeCache({s: {"inputs": documents(), "targets": documents()} for s in ("train", "validation")})

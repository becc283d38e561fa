"""TFDS builder of the shipped text: importing it gives `tfds.builder("bible/en")` and `tfds.builder("bible/en_es")`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import tensorflow_datasets as tfds

from encdec_jax.data.corpus import FEATURES, SPLITS, documents


class Bible(tfds.core.GeneratorBasedBuilder):
    """Public-domain Bibles, split by book: English chapters, or English to Spanish verse pairs."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = [
        tfds.core.BuilderConfig(name="en", description="chapters of the King James Version and World English Bible"),
        tfds.core.BuilderConfig(name="en_es", description="verse pairs, World English Bible to Reina-Valera 1909"),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({name: tfds.features.Text() for name in FEATURES[self._task]}),
            description=self.__doc__,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # the text is in the package
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, str]]]:
        yield from enumerate(documents(self._task, split))

    @property
    def _task(self) -> str:
        return f"bible_{self.builder_config.name}"

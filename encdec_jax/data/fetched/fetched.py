"""TFDS builder of fetched data: importing it gives `tfds.builder("fetched_data/cmudict")` and the others by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import tensorflow_datasets as tfds

from encdec_jax.data.corpus import SPLITS
from encdec_jax.data.fetch.catalogue import FETCHED
from encdec_jax.data.fetch.fetch import examples


class FetchedData(tfds.core.GeneratorBasedBuilder):
    """What `encdec fetch NAME` fetched: text, or pairs of it, split by group."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = [
        tfds.core.BuilderConfig(name=name, description=task.text) for name, task in FETCHED.items()
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({name: tfds.features.Text() for name in self._features}),
            description=self.__doc__,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # `encdec fetch` has been there
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, str]]]:
        for number, row in enumerate(examples(self.builder_config.name, split)):
            yield number, dict(zip(self._features, row, strict=True))

    @property
    def _features(self) -> tuple[str, ...]:
        return FETCHED[self.builder_config.name].features

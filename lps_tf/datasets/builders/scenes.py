"""Renders scenes once and stores them; see `lps_tf.datasets.rendering`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds
from PIL import Image

from lps_tf._internal import checks
from lps_tf.datasets import rendering
from lps_tf.datasets.builders.features import scene_features

# Splits start far apart: whatever the counts, no scene is in two of them, and a
# larger data set has all the scenes of a smaller one in the same split.
_FIRST = {"train": 0, "validation": 2**30, "test": 2**31}


@dataclass(kw_only=True)
class SceneConfig(tfds.core.BuilderConfig):
    """Which scenes to render, and how large; each choice has a folder of its own.

    Attributes:
        height: Rows of the pictures, at least 16.
        width: Columns of the pictures, at least 16.
        train: Number of scenes to train on.
        val: Number of scenes to validate on.
        test: Number of scenes to report on.
        seed: Seed of the collection of scenes.
    """

    name: str = field(init=False)
    height: int
    width: int
    train: int
    val: int
    test: int
    seed: int

    def __post_init__(self) -> None:
        """Checks the numbers and names the folder after them.

        Raises:
            ValueError: If one of them is not a whole number, or too small.
        """
        least = {"height": 16, "width": 16, "train": 1, "val": 1, "test": 1, "seed": 0}
        for number, limit in least.items():
            setattr(self, number, checks.count(number, getattr(self, number), limit))
        self.name = (
            f"{self.height}x{self.width}"
            f"-{self.train}-{self.val}-{self.test}-seed{self.seed}"
        )


def builder(config: SceneConfig, data_dir: str | Path | None) -> "_RenderedScenes":
    """The builder of these scenes.

    Args:
        config: Which scenes.
        data_dir: Folder of TFDS, by default TFDS's own.
    """

    # TFDS warns of configs that a class does not list.
    class RenderedScenes(  # type: ignore[call-arg]
        _RenderedScenes, skip_registration=True
    ):
        BUILDER_CONFIGS: ClassVar = [config]

    return RenderedScenes(config=config, data_dir=data_dir)


# TFDS has no types, and hides that its builders take an argument.
class _RenderedScenes(  # type: ignore[call-arg]
    tfds.core.GeneratorBasedBuilder, skip_registration=True
):
    # To be raised whenever the renderer draws something else.
    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{rendering.SOURCE}, with a map of materials for each scene",
            features=scene_features(config.height, config.width, "png"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        del dl_manager  # nothing to download
        config = self.builder_config
        counts = {"train": config.train, "validation": config.val, "test": config.test}
        return {
            split: self._generate_examples(_FIRST[split], count)
            for split, count in counts.items()
        }

    def _generate_examples(self, first: int, count: int) -> Iterator[tuple[int, dict]]:
        config = self.builder_config
        for index in range(first, first + count):
            images, materials = rendering.render(
                config.seed, index, config.height, config.width
            )
            yield (
                index,
                {
                    "images": [Image.fromarray(image) for image in images],
                    "materials": Image.fromarray(materials),
                    "scene": f"scene {index}",
                },
            )

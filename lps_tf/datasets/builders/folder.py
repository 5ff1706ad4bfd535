"""The TFDS builder of a folder's images with their corruptions, on Beam or without."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from lps_tf.datasets.builders.corrupted import Corrupted, CorruptionSet, versions
from lps_tf.datasets.image_files import read

#: A split's images in order: path and label.
Files = list[tuple[str, int]]


@dataclasses.dataclass
class FolderSet(CorruptionSet):
    """A corruption set of image files.

    Attributes:
        files: The images of each split.
        classes: Names of the classes.
        shape: (height, width, channels) to which images are brought.
    """

    files: dict[str, Files] = dataclasses.field(default_factory=dict)
    classes: tuple[str, ...] = ()
    shape: tuple[int, int, int] = (32, 32, 3)


class LpsCorruptedFolder(Corrupted, skip_registration=True):  # type: ignore[call-arg]
    """A folder's images with their corruptions.

    Attributes:
        on_beam: Whether Apache Beam prepares it, with the pipeline of TFDS's
            `DownloadConfig`. Its workers must see the folder.
    """

    _about = "Images of a folder with corruptions of lps_tf"
    on_beam = False

    @property
    def _classes(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.builder_config.classes

    @property
    def _shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        return self.builder_config.shape

    def _clean(self, split: str) -> Iterator[tuple[np.ndarray, int]]:
        height, width, channels = self._shape
        for path, label in self.builder_config.files[split]:
            yield read(path, (height, width), channels), label

    def _generate_examples(self, split: str) -> Any:
        if not self.on_beam:
            return super()._generate_examples(split)
        import apache_beam as beam

        config = self.builder_config
        # Each worker gets the plan without the list of all files.
        plan = dataclasses.replace(config, files={})
        numbered = list(enumerate(config.files[split]))
        return (
            beam.Create(numbered)
            | "spread" >> beam.Reshuffle()
            | "corrupt" >> beam.Map(_example, plan, split)
        )


def _example(
    numbered: tuple[int, tuple[str, int]], plan: FolderSet, split: str
) -> tuple[int, dict[str, Any]]:
    """One image with its corruptions: what the builder's own loop makes of it."""
    number, (path, label) = numbered
    height, width, channels = plan.shape
    image = read(path, (height, width), channels)
    corrupted = versions(image[None], np.array([number]), plan, split)[0]
    return number, {"image": image, "corrupted": corrupted, "label": label}

"""TFDS builders of images with all their corruptions.

A builder writes each image once, with its corrupted versions beside it. Draws depend
on the split and the image's number alone, so that a data set made again is the same.
"""

import dataclasses
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from lps_tf import corruptions
from lps_tf.datasets.builders import grey, patches, prepared

_BATCH = 256
#: The splits that the paper's twelve and the unseen three are made for.
_SPLITS = ("train", "validation", "test")


@dataclasses.dataclass
class CorruptionSet(tfds.core.BuilderConfig):
    """Which corruptions, at which severity, of which splits."""

    corruptions: tuple[str, ...] = ()
    severity: int = 5
    splits: tuple[str, ...] = _SPLITS


#: What the paper trains on, and what it keeps to test on.
SETS: dict[str, dict[str, Any]] = {
    "paper": {
        "description": "the paper's twelve corruptions at severity 5",
        "corruptions": corruptions.PAPER,
    },
    "unseen": {
        "description": "corruptions at severity 5 that the paper does not train on",
        "corruptions": corruptions.OUT_OF_DISTRIBUTION,
        "splits": ("test",),
    },
}


def versions(
    images: np.ndarray, index: np.ndarray, config: CorruptionSet, split: str
) -> np.ndarray:
    """Corrupts images (n, h, w, c) of a split, whose numbers are `index`.

    Returns:
        Bytes (n, corruptions, h, w, c).
    """
    seed = _SPLITS.index(split)  # the draws of the splits differ
    return np.stack(
        [
            corruptions.corrupt(images, name, config.severity, seed, index)
            for name in config.corruptions
        ],
        1,
    )


# TensorFlow Datasets has no types, and hides that its builders take an argument.
class Corrupted(  # type: ignore[call-arg]
    tfds.core.GeneratorBasedBuilder, skip_registration=True
):
    """What the builders share; subclasses say where clean images come from."""

    VERSION = tfds.core.Version("1.0.0")
    _classes: tuple[str, ...]
    _about: str
    _shape: tuple[int, int, int] = (32, 32, 3)

    def _clean(self, split: str) -> Iterator[tuple[np.ndarray, int]]:
        """Images of `_shape`, uint8, and labels, always in the same order."""
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        shape = self._shape
        corrupted = (len(self.builder_config.corruptions), *shape)
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{self._about}: {self.builder_config.description}.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=shape, dtype=np.uint8),
                    "corrupted": tfds.features.Tensor(shape=corrupted, dtype=np.uint8),
                    "label": tfds.features.ClassLabel(names=self._classes),
                }
            ),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        return {
            split: self._generate_examples(split)
            for split in self.builder_config.splits
        }

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        start = 0
        examples = self._clean(split)
        while batch := list(islice(examples, _BATCH)):
            images, labels = map(np.array, zip(*batch, strict=True))
            index = start + np.arange(len(images))
            corrupted = versions(images, index, self.builder_config, split)
            for i, number in enumerate(index):
                yield (
                    int(number),
                    {
                        "image": images[i],
                        "corrupted": corrupted[i],
                        "label": int(labels[i]),
                    },
                )
            start += len(images)


class LpsCorruptedCifar10(Corrupted, skip_registration=False):  # type: ignore[call-arg]
    """CIFAR-10 with its corruptions, training images too; 2.5 GB.

    The published `cifar10_corrupted` has the test images alone. Validation is the
    last fiftieth of the training images.
    """

    BUILDER_CONFIGS: ClassVar = [CorruptionSet(name=k, **v) for k, v in SETS.items()]
    _classes = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
    _about = "CIFAR-10 with corruptions of lps_tf"

    def _clean(self, split: str) -> Iterator[tuple[np.ndarray, int]]:
        root = Path(self.data_dir).parents[2]
        source = prepared.builder("cifar10", root, stand_in="photos")
        parts = dict(zip(_SPLITS, prepared.held_out(source, share=50), strict=True))
        data = source.as_dataset(split=parts[split], as_supervised=True)
        yield from data.as_numpy_iterator()


class LpsCorruptedFashionMnist(Corrupted, skip_registration=False):  # type: ignore[call-arg]
    """Fashion-MNIST with its corruptions, in grey; 940 MB."""

    BUILDER_CONFIGS: ClassVar = [CorruptionSet(name=k, **v) for k, v in SETS.items()]
    _classes = (
        *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    )
    _about = "Fashion-MNIST with corruptions of lps_tf"
    _shape = (28, 28, 1)

    def _clean(self, split: str) -> Iterator[tuple[np.ndarray, int]]:
        root = Path(self.data_dir).parents[2]
        arrays = grey.splits("fashion_mnist", root, stand_in="", download=False)
        yield from zip(*arrays[_SPLITS.index(split)], strict=True)


@dataclasses.dataclass
class PatchSet(CorruptionSet):
    """A corruption set of photo patches, and how many of them a class."""

    patches: tuple[int, int, int] = (1818, 100, 200)
    seed: int = 0


class LpsCorruptedPhotos(Corrupted, skip_registration=False):  # type: ignore[call-arg]
    """Photo patches with their corruptions; see `patches`."""

    BUILDER_CONFIGS: ClassVar = [PatchSet(name=k, **v) for k, v in SETS.items()]
    _classes = patches.CLASSES
    _about = patches.SOURCE

    def _clean(self, split: str) -> Iterator[tuple[np.ndarray, int]]:
        config = self.builder_config
        per_class = config.patches[_SPLITS.index(split)]
        return patches.patches(split, per_class, config.seed)

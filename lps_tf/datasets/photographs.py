"""Small photographs and their corruptions: CIFAR-10, and its offline stand-in."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from lps_tf._internal import checks
from lps_tf._internal.progress import quiet
from lps_tf.corruptions import CORRUPTIONS, OUT_OF_DISTRIBUTION, PAPER
from lps_tf.datasets.base import PairData
from lps_tf.datasets.builders import prepared
from lps_tf.datasets.pipelines.pairing import crop_and_flip
from lps_tf.datasets.pipelines.stored import Groups, grouped_data


def cifar10_corrupted(
    pairing: str = "from_original",
    batch_size: int = 128,
    augment: bool = True,
    data_dir: str | Path | None = None,
    seed: int = 0,
) -> PairData:
    """CIFAR-10 with the paper's twelve corruptions at severity 5 (paper, section 6).

    49,000 images to train on, 1,000 to validate, 10,000 to test; unseen are Gaussian
    blur, spatter and saturate. The first call corrupts all images, which takes a few
    minutes and 2.5 GB.

    Args:
        pairing: "from_original", x and a corruption of it; "with_original", two
            different ones of x and its corruptions; "among_perturbed", two different
            corruptions.
        batch_size: Size of training batches.
        augment: Whether to pad training images by 4, crop and flip, both images of a
            pair alike.
        data_dir: Where TensorFlow Datasets keeps `cifar10`, default its own folder.
        seed: Seed of the order and the pairs.

    Raises:
        FileNotFoundError: If `cifar10` has not been prepared: nothing downloads
            silently.
    """
    prepared.builder("cifar10", data_dir, stand_in="photos")
    from lps_tf.datasets.builders.corrupted import LpsCorruptedCifar10

    builders = {
        name: LpsCorruptedCifar10(config=name, data_dir=data_dir)
        for name in ("paper", "unseen")
    }
    return _data("CIFAR-10, corrupted", builders, pairing, batch_size, augment, seed)


def photos(
    pairing: str = "from_original",
    batch_size: int = 128,
    augment: bool = True,
    patches: tuple[int, int, int] = (1818, 100, 200),
    data_dir: str | Path | None = None,
    seed: int = 0,
) -> PairData:
    """Patches of scikit-image's photographs, corrupted: stands in for CIFAR-10.

    It has the structure of `cifar10_corrupted`.

    Args:
        pairing: How to pair; as there.
        batch_size: Size of training batches.
        augment: Whether to augment training images; as there.
        patches: Training, validation and test patches of each of the 11 photographs;
            by default about 20,000 training patches, which take a gigabyte and two
            minutes to prepare, once.
        data_dir: Where to keep them, default TensorFlow Datasets's own folder.
        seed: Seed of the patches, the order and the pairs.
    """
    from lps_tf.datasets.builders.corrupted import SETS, LpsCorruptedPhotos, PatchSet
    from lps_tf.datasets.builders.patches import SOURCE

    patches = tuple(checks.count("patches", n) for n in patches)
    builders = {}
    for name, what in SETS.items():
        config = PatchSet(
            name="_".join(map(str, (name, *patches, f"seed{seed}"))),
            patches=patches,
            seed=seed,
            **what,
        )
        # A config of its own is nothing to warn about.
        with quiet("absl", logging.ERROR):
            builders[name] = LpsCorruptedPhotos(config=config, data_dir=data_dir)
    return _data(f"{SOURCE}, corrupted", builders, pairing, batch_size, augment, seed)


def cifar10_published(
    corruption: str,
    severity: int = 5,
    batch_size: int = 100,
    data_dir: str | Path | None = None,
) -> tf.data.Dataset:
    """The published CIFAR-10-C test images, (x, y), to compare with ours.

    Args:
        corruption: One of `lps_tf.corruptions.CORRUPTIONS`.
        severity: 1 to 5.
        batch_size: Size of the batches.
        data_dir: Where TensorFlow Datasets keeps `cifar10_corrupted`.

    Raises:
        FileNotFoundError: If that data set has not been prepared.
        ValueError: For an unknown corruption.
    """
    if corruption not in CORRUPTIONS:
        raise ValueError(
            f"`corruption` must be one of {CORRUPTIONS}. "
            f"Received: corruption={corruption}"
        )
    # The data set's own names for two of them.
    theirs = {"glass_blur": "frosted_glass_blur", "elastic_transform": "elastic"}
    name = f"cifar10_corrupted/{theirs.get(corruption, corruption)}_{severity}"
    builder = prepared.builder(name, data_dir, stand_in="photos")
    data = builder.as_dataset(split="test", as_supervised=True)
    return data.map(lambda x, y: (_decode(x), y)).batch(batch_size).prefetch(2)


def _decode(image: tf.Tensor) -> tf.Tensor:
    return tf.cast(image, tf.float32) / 255


def _data(
    name: str,
    builders: dict[str, Any],
    pairing: str,
    batch_size: int,
    augment: bool,
    seed: int,
) -> PairData:
    import tensorflow_datasets as tfds

    # Each of a PairData's pipelines would fill a cache of its own.
    config = tfds.ReadConfig(try_autocache=False)

    def groups(which: str, split: str) -> tf.data.Dataset:
        data = builders[which].as_dataset(split=split, read_config=config)
        return data.map(lambda d: (d["image"], d["corrupted"], d["label"]))

    for builder in builders.values():  # those that are prepared stay as they are
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
    class_names = tuple(builders["paper"].info.features["label"].names)
    data = grouped_data(
        name,
        len(class_names),
        Groups(
            *(groups("paper", split) for split in ("train", "validation", "test")),
            decode=_decode,
        ),
        pairing=pairing,
        batch_size=batch_size,
        augment=crop_and_flip(4) if augment else None,
        seed=seed,
        perturbations=PAPER,
        unseen=groups("unseen", "test"),
        unseen_perturbations=OUT_OF_DISTRIBUTION,
    )
    return replace(data, class_names=class_names)

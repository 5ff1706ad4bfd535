"""CIFAR-10, corrupted, through TensorFlow Datasets; `photos` is its stand-in."""

from pathlib import Path

import tensorflow as tf

from lps_tf.corruptions import CORRUPTIONS
from lps_tf.datasets.base import PairData
from lps_tf.datasets.builders import prepared
from lps_tf.datasets.photographs import corrupted_data, decode
from lps_tf.datasets.pipelines.pairing import crop_and_flip


def cifar10_corrupted(
    pairing: str = "from_original",
    batch_size: int = 128,
    augment: bool = True,
    data_dir: str | Path | None = None,
    download: bool = False,
    seed: int = 0,
) -> PairData:
    """Pairs CIFAR-10 with the paper's twelve corruptions at severity 5.

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
        download: Whether to download it through TensorFlow Datasets if it is not there.
        seed: Seed of the order and the pairs.

    Raises:
        FileNotFoundError: If `cifar10` has not been prepared: nothing downloads
            silently.
    """
    prepared.builder("cifar10", data_dir, stand_in="photos", download=download)
    from lps_tf.datasets.builders.corrupted import LpsCorruptedCifar10

    builders = {
        name: LpsCorruptedCifar10(config=name, data_dir=data_dir)
        for name in ("paper", "unseen")
    }
    return corrupted_data(
        "CIFAR-10, corrupted",
        builders,
        pairing,
        batch_size,
        crop_and_flip(4) if augment else None,
        seed,
    )


def cifar10_published(
    corruption: str,
    severity: int = 5,
    batch_size: int = 100,
    data_dir: str | Path | None = None,
    download: bool = False,
) -> tf.data.Dataset:
    """Reads the published CIFAR-10-C test images, (x, y), to compare with ours.

    Args:
        corruption: One of `lps_tf.corruptions.CORRUPTIONS`.
        severity: 1 to 5.
        batch_size: Size of the batches.
        data_dir: Where TensorFlow Datasets keeps `cifar10_corrupted`.
        download: Whether to download it if it is not there.

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
    builder = prepared.builder(name, data_dir, stand_in="photos", download=download)
    data = builder.as_dataset(split="test", as_supervised=True)
    return data.map(lambda x, y: (decode(x), y)).batch(batch_size).prefetch(2)

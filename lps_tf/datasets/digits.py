"""Scikit-learn's 1,797 real handwritten digits: no download needed.

They are the offline stand-in for MNIST: 8x8 images, here enlarged to 28x28. Every
report names them "digits (scikit-learn, 8x8 enlarged to 28x28)".
"""

import functools
import math

import numpy as np
import tensorflow as tf
from skimage.transform import resize
from sklearn.datasets import load_digits

from lps_tf import geometry
from lps_tf.datasets.base import PairData
from lps_tf.datasets.drawn import Split, pair_data

SOURCE = "digits (scikit-learn, 8x8 enlarged to 28x28)"
_VALIDATION, _TEST = 200, 300


def digits_rts(
    batch_size: int = 128,
    limited: int | None = None,
    draws: int = 4,
    group: int = 10,
    seed: int = 0,
) -> PairData:
    """Digits on a 42x42 canvas, rotated, translated and scaled (paper, section 6).

    Rotation is uniform in +-45 degrees, scale in 0.7 to 1.3, translation a whole
    number of pixels in +-7 in each direction.

    Args:
        batch_size: of training batches.
        limited: k fixed perturbed versions of each training image; None draws fresh
            ones in each epoch.
        draws: fixed versions of each validation and test image.
        group: versions of each test image in `test_groups`.
        seed: of the split and the draws.
    """
    splits = [
        Split(np.pad(s.images, ((0, 0), (7, 7), (7, 7), (0, 0))), s.labels)
        for s in _splits(seed)
    ]
    return pair_data(
        f"{SOURCE}, RTS",
        *splits,
        perturb_rts,
        batch_size=batch_size,
        limited=limited,
        draws=draws,
        group=group,
        seed=seed,
    )


def digits_linf(
    batch_size: int = 128,
    limited: int | None = None,
    draws: int = 4,
    group: int = 10,
    seed: int = 0,
) -> PairData:
    """Digits with uniform noise in +-0.3 on every pixel, clipped to [0, 1].

    Arguments are those of `digits_rts`.
    """
    return pair_data(
        f"{SOURCE}, l-infinity",
        *_splits(seed),
        perturb_linf,
        batch_size=batch_size,
        limited=limited,
        draws=draws,
        group=group,
        seed=seed,
    )


@functools.cache
def _splits(seed: int) -> tuple[Split, Split, Split]:
    digits = load_digits()
    images = np.stack(
        [resize(image, (28, 28), order=1, mode="edge") for image in digits.images / 16]
    )
    images = images.astype(np.float32)[..., None].clip(0, 1)
    order = np.random.RandomState(seed).permutation(len(images))
    parts = np.split(order, [_VALIDATION, _VALIDATION + _TEST])
    val, test, train = (Split(images[p], digits.target[p]) for p in parts)
    return train, val, test


def perturb_rts(x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A random rotation, scaling and translation of each image.

    Args:
        x: images (batch, height, width, channels) whose border is background.
        seed: two int32.

    Returns:
        Images of the same shape.
    """
    height, width = x.shape[1:3]
    n = tf.shape(x)[0]
    seeds = tf.random.split(seed, 4)
    angle = tf.random.stateless_uniform((n,), seeds[0], -math.pi / 4, math.pi / 4)
    scale = tf.random.stateless_uniform((n,), seeds[1], 0.7, 1.3)
    down, right = (
        tf.cast(tf.random.stateless_uniform((n,), s, -7, 8, tf.int32), tf.float32)
        for s in (seeds[2], seeds[3])
    )
    # From output to input coordinates: undo the translation, then the rotation and
    # the scaling about the centre.
    # Coordinates are normalised: `tall` keeps a rotation one where height and width
    # differ.
    dx, dy, tall = 2 * right / width, 2 * down / height, height / width
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    rows = [
        *(cos, tall * sin, -cos * dx - tall * sin * dy),
        *(-sin / tall, cos, sin / tall * dx - cos * dy),
    ]
    matrices = tf.reshape(tf.stack(rows, -1), (-1, 1, 2, 3))
    moved = geometry.affine_sample(geometry.neighbour_table(x), matrices, height, width)
    return tf.clip_by_value(moved, 0.0, 1.0)


def perturb_linf(x: tf.Tensor, seed: tf.Tensor, epsilon: float = 0.3) -> tf.Tensor:
    """Uniform noise in +-epsilon on every pixel, clipped to [0, 1]."""
    noise = tf.random.stateless_uniform(tf.shape(x), seed, -epsilon, epsilon)
    return tf.clip_by_value(x + noise, 0.0, 1.0)

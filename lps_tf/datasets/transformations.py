"""The perturbations of the paper's MNIST experiments, for any small grey images."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from lps_tf._internal import resampling
from lps_tf.datasets.base import PairData
from lps_tf.datasets.pipelines.on_the_fly import Split, pair_data

#: Of images (28, 28, 1) in [0, 1]: train, validation, test.
Splits = tuple[Split, Split, Split]
_PAD = 7


def splits(arrays: Iterable[tuple[np.ndarray, np.ndarray]]) -> Splits:
    """Turns bytes with labels, of training, validation and test, into splits."""
    train, val, test = (
        Split(images.astype(np.float32) / 255, labels.astype(np.int64))
        for images, labels in arrays
    )
    return train, val, test


def rts_data(source: str, splits: Splits, **options: Any) -> PairData:
    """Pairs images on a 42x42 canvas with rotated, translated and scaled ones."""
    pad = ((0, 0), (_PAD, _PAD), (_PAD, _PAD), (0, 0))
    train, val, test = (Split(np.pad(s.images, pad), s.labels) for s in splits)
    return pair_data(f"{source}, RTS", train, val, test, perturb_rts, **options)


def linf_data(source: str, splits: Splits, **options: Any) -> PairData:
    """Pairs images with themselves under uniform noise in +-0.3 on every pixel."""
    return pair_data(f"{source}, l-infinity", *splits, perturb_linf, **options)


def perturb_rts(x: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Rotates, scales and translates each image at random.

    Args:
        x: Images (batch, height, width, channels) whose border is background.
        key: Two int32.

    Returns:
        Images of the same shape.
    """
    height, width = x.shape[1:3]
    n = tf.shape(x)[0]
    keys = tf.random.split(key, 4)
    angle = tf.random.stateless_uniform((n,), keys[0], -math.pi / 4, math.pi / 4)
    scale = tf.random.stateless_uniform((n,), keys[1], 0.7, 1.3)
    down, right = (
        tf.cast(
            tf.random.stateless_uniform((n,), k, -_PAD, _PAD + 1, tf.int32), tf.float32
        )
        for k in (keys[2], keys[3])
    )
    # From output to input coordinates: undo the translation, then the rotation and
    # the scaling about the centre. Coordinates are normalised: `tall` keeps a rotation
    # one where height and width differ.
    dx, dy, tall = 2 * right / width, 2 * down / height, height / width
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    rows = [
        *(cos, tall * sin, -cos * dx - tall * sin * dy),
        *(-sin / tall, cos, sin / tall * dx - cos * dy),
    ]
    matrices = tf.reshape(tf.stack(rows, -1), (-1, 1, 2, 3))  # (batch, 6) before
    moved = resampling.affine_sample(
        resampling.neighbour_table(x), matrices, height, width
    )
    return tf.clip_by_value(moved, 0.0, 1.0)


def perturb_linf(x: tf.Tensor, key: tf.Tensor, epsilon: float = 0.3) -> tf.Tensor:
    """Adds uniform noise in +-epsilon to every pixel and clips to [0, 1]."""
    noise = tf.random.stateless_uniform(tf.shape(x), key, -epsilon, epsilon)
    return tf.clip_by_value(x + noise, 0.0, 1.0)

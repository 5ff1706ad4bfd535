"""The perturbations of the paper's MNIST experiments, for any small grey images."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from lps_tf._internal import resampling
from lps_tf.datasets.base import PairData, even_batch
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
    data = pair_data(f"{source}, RTS", train, val, test, perturb_rts, **options)
    # Hundreds of versions of each: a few images at a time.
    few = tf.data.Dataset.from_tensor_slices((test.images, test.labels))
    few = few.batch(even_batch(len(test.images), 5))
    grid_groups = few.map(lambda x, y: (_on_grid(x), y))
    return dataclasses.replace(data, grid_groups=grid_groups)


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
    return rts(x, angle, scale, down, right)


def rts(
    x: tf.Tensor, angle: tf.Tensor, scale: tf.Tensor, down: tf.Tensor, right: tf.Tensor
) -> tf.Tensor:
    """Rotates and scales each image about its centre, then translates it.

    Args:
        x: Images (batch, height, width, channels) whose border is background.
        angle: Angles in radians, (batch,).
        scale: Factors on the size, (batch,).
        down: Pixels to move down, (batch,).
        right: Pixels to move to the right, (batch,).

    Returns:
        Images of the same shape.
    """
    height, width = x.shape[1:3]
    matrices = resampling.affine_matrices(
        height, width, angle=angle, scale=scale, down=down, right=right
    )
    moved = resampling.affine_sample(
        resampling.neighbour_table(x), matrices, height, width
    )
    return tf.clip_by_value(moved, 0.0, 1.0)


def rts_grid(
    angles: int = 7, scales: int = 3, shifts: int = 3
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A grid over the range of `perturb_rts`, its ends included.

    Args:
        angles: Number of angles.
        scales: Number of scales.
        shifts: Number of translations in each of two directions, whole pixels.

    Returns:
        Arguments of `rts`, each (angles * scales * shifts * shifts,), float32.
    """
    shift = np.linspace(-_PAD, _PAD, shifts).round()
    axes = (
        np.linspace(-math.pi / 4, math.pi / 4, angles),
        np.linspace(0.7, 1.3, scales),
        shift,
        shift,
    )
    angle, scale, down, right = (
        axis.ravel().astype(np.float32) for axis in np.meshgrid(*axes, indexing="ij")
    )
    return angle, scale, down, right


def _on_grid(x: tf.Tensor) -> tf.Tensor:
    """Images (batch, ...) at every point of the grid: (batch, points, ...)."""
    grid = rts_grid()
    points = len(grid[0])
    parameters = (tf.tile(axis, [tf.shape(x)[0]]) for axis in grid)
    versions = rts(tf.repeat(x, points, 0), *parameters)
    return tf.reshape(versions, (-1, points, *x.shape[1:]))


def perturb_linf(x: tf.Tensor, key: tf.Tensor, epsilon: float = 0.3) -> tf.Tensor:
    """Adds uniform noise in +-epsilon to every pixel and clips to [0, 1]."""
    noise = tf.random.stateless_uniform(tf.shape(x), key, -epsilon, epsilon)
    return tf.clip_by_value(x + noise, 0.0, 1.0)

"""Pooling to a given size and bilinear resizing, as a product along each axis.

Both are linear and act on rows and columns apart: two small constant matrices each,
whatever the size, with exact gradients under XLA. Sizes need not be known when a graph
is traced.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

#: An integer, or a scalar tensor where a graph does not know its sizes yet.
Size: TypeAlias = int | tf.Tensor


def size_of(x: tf.Tensor) -> tuple[Size, Size]:
    """Returns height and width of maps (batch, height, width, channels)."""
    known, traced = x.shape[1:3], tf.shape(x)[1:3]
    height, width = (traced[i] if known[i] is None else known[i] for i in range(2))
    return height, width


def _constant(matrix: Callable[..., tf.Tensor]) -> Callable[..., Any]:
    """Computes the matrix once, outside of the graph, if all sizes are integers."""

    @functools.cache
    def known(*sizes: int) -> np.ndarray:
        with tf.init_scope():
            return matrix(*sizes).numpy()

    @functools.wraps(matrix)
    def either(*sizes: Size) -> tf.Tensor | np.ndarray:
        return (matrix if any(map(tf.is_tensor, sizes)) else known)(*sizes)

    return either


@_constant
def pool_matrix(size: Size, cells: int) -> tf.Tensor:
    """Returns the adaptive average pooling of an axis, (cells, size).

    Cell i averages the inputs floor(i size / cells) to ceil((i+1) size / cells) - 1.
    """
    cell, position = tf.range(cells)[:, None], tf.range(size)[None]
    first, end = cell * size // cells, -(-(cell + 1) * size // cells)
    inside = tf.cast((first <= position) & (position < end), tf.float32)
    return inside / tf.cast(end - first, tf.float32)


@_constant
def resize_matrix(size: Size, new: Size, corners: bool = False) -> tf.Tensor:
    """Returns the bilinear resizing of an axis, (new, size), without antialiasing.

    Args:
        size: Length of the input.
        new: Length of the output.
        corners: Whether the outermost centres of both coincide (align_corners).
    """
    # float64: in float32 the weights of an axis of a thousand are off by 1e-4.
    position = tf.cast(tf.range(new), tf.float64)  # (new,)
    last = tf.cast(size, tf.float64) - 1
    if corners:
        position *= last / tf.maximum(tf.cast(new, tf.float64) - 1, 1)
    else:
        position = (position + 0.5) * (last + 1) / tf.cast(new, tf.float64) - 0.5
        position = tf.clip_by_value(position, 0, last)
    # Each output is a mean of its two neighbours, weighted by closeness.
    distance = position[:, None] - tf.cast(tf.range(size), tf.float64)
    return tf.cast(tf.nn.relu(1 - tf.abs(distance)), tf.float32)


def apply_axes(x: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Multiplies rows and columns of maps by a matrix each.

    Args:
        x: Maps (batch, height, width, channels).
        rows: Matrix (new height, height).
        columns: Matrix (new width, width).

    Returns:
        Maps (batch, new height, new width, channels).
    """
    x = tf.einsum("ih,bhwc->biwc", tf.cast(rows, x.dtype), x)
    return tf.einsum("jw,biwc->bijc", tf.cast(columns, x.dtype), x)

"""Affine resampling of image batches, bilinear, without leaving the graph.

The same sampler moves digits in the data pipeline and sits inside the spatial
transformers of `mnist_stn`. Coordinates are normalised as PyTorch's `grid_sample`
with align_corners=False: the left edge of the image is -1, the right edge +1.
"""

import functools

import numpy as np
import tensorflow as tf


def neighbour_table(images: tf.Tensor) -> tf.Tensor:
    """Each pixel beside its right, lower and lower-right neighbours.

    With it, bilinear sampling is one gather instead of four.

    Args:
        images: (batch, height, width, channels).

    Returns:
        (batch, height * width, 4 * channels); the border repeats.
    """
    height, width, channels = images.shape[1:]
    x = tf.concat([images, images[:, -1:]], 1)
    x = tf.concat([x, x[:, :, -1:]], 2)
    corners = [x[:, :-1, :-1], x[:, :-1, 1:], x[:, 1:, :-1], x[:, 1:, 1:]]
    return tf.reshape(tf.concat(corners, -1), (-1, height * width, 4 * channels))


def affine_matrices(
    height: int,
    width: int,
    *,
    angle: tf.Tensor | float = 0.0,
    scale: tf.Tensor | float = 1.0,
    shear: tf.Tensor | float = 0.0,
    down: tf.Tensor | float = 0.0,
    right: tf.Tensor | float = 0.0,
) -> tf.Tensor:
    """The matrices with which `affine_sample` shears, rotates, scales, then moves.

    All but the translation are about the centre of the image. At least one argument
    is a tensor (batch,); the others may be numbers.

    Args:
        height: Rows of the images.
        width: Columns of the images.
        angle: Angle of the rotation in radians, clockwise as the image is seen.
        scale: Factor by which what is seen becomes larger.
        shear: Columns by which each row is moved to the right of the one above.
        down: Rows by which the image is moved down.
        right: Columns by which it is moved to the right.

    Returns:
        (batch, 1, 2, 3), output to input coordinates.
    """
    # From output to input coordinates: undo the translation, then the rotation, the
    # scaling and the shear about the centre. Coordinates are normalised: `tall` keeps a
    # rotation one where height and width differ.
    dx, dy, tall = 2 * right / width, 2 * down / height, height / width
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    a, b = cos + shear * sin, tall * (sin - shear * cos)
    rows = [a, b, -a * dx - b * dy, -sin / tall, cos, sin / tall * dx - cos * dy]
    shape = functools.reduce(tf.broadcast_dynamic_shape, map(tf.shape, rows))
    rows = [tf.broadcast_to(value, shape) for value in rows]
    return tf.reshape(tf.stack(rows, -1), (-1, 1, 2, 3))  # (batch, 6) before


def affine_sample(
    table: tf.Tensor, matrices: tf.Tensor, height: int, width: int
) -> tf.Tensor:
    """Images resampled by affine maps of their coordinates; outside, the border.

    Args:
        table: `neighbour_table` of the images.
        matrices: (batch, transforms, 2, 3): output coordinates (x, y, 1) to the
            input coordinates (x, y) to read.
        height: Rows of the output.
        width: Columns of the output.

    Returns:
        (batch, height, width, transforms * channels).
    """
    x = (2 * np.arange(width, dtype=np.float32) + 1) / width - 1
    y = (2 * np.arange(height, dtype=np.float32) + 1) / height - 1
    grid = np.stack([*np.meshgrid(x, y), np.ones((height, width), np.float32)])
    # As one flat product: TensorFlow 2.21's batched one, with a second factor that
    # is broadcast, is wrong on a CPU beyond 128 rows of the batch.
    coordinates = tf.reshape(matrices, (-1, 3)) @ grid.reshape(3, -1)
    coordinates = tf.reshape(coordinates, (-1, matrices.shape[1], 2, height * width))
    column = tf.clip_by_value(
        ((coordinates[:, :, 0] + 1) * width - 1) / 2, 0, width - 1
    )
    row = tf.clip_by_value(((coordinates[:, :, 1] + 1) * height - 1) / 2, 0, height - 1)
    left, top = tf.floor(column), tf.floor(row)
    index = tf.cast(top, tf.int32) * width + tf.cast(left, tf.int32)
    corners = tf.gather(table, index, batch_dims=1)  # (batch, T, pixels, 4 channels)
    a, b, c, d = tf.split(corners, 4, axis=-1)
    right, down = (column - left)[..., None], (row - top)[..., None]
    upper, lower = a + right * (b - a), c + right * (d - c)
    values = upper + down * (lower - upper)  # (batch, T, pixels, channels)
    transforms, channels = matrices.shape[1], values.shape[-1]
    values = tf.transpose(values, (0, 2, 1, 3))
    return tf.reshape(values, (-1, height, width, transforms * channels))

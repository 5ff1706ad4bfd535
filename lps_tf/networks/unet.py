"""The U-Net's two halves, shared by `mi_unet` and the segmenter.

Average pooling to a given size and bilinear resizing are linear and act on rows and
columns apart: two small constant matrices each, whatever the size, with exact
gradients under XLA. Sizes need not be known when a graph is traced.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lps_tf.networks.layers import BatchNorm, conv, register

#: A number, or a scalar tensor where a graph does not know its sizes yet.
Size = int | tf.Tensor


def size_of(x: tf.Tensor) -> tuple[Size, Size]:
    """Height and width of maps (batch, height, width, channels)."""
    sizes = tf.shape(x)
    return tuple(
        sizes[axis] if x.shape[axis] is None else x.shape[axis] for axis in (1, 2)
    )


def _constant(matrix: Callable[..., tf.Tensor]) -> Callable[..., Any]:
    """Works the matrix out once, outside of the graph, if the sizes are numbers."""

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
    """Adaptive average pooling of an axis, (cells, size).

    Cell i averages the inputs floor(i size / cells) to ceil((i+1) size / cells) - 1.
    """
    cell, place = tf.range(cells)[:, None], tf.range(size)[None]
    first, end = cell * size // cells, -(-(cell + 1) * size // cells)
    inside = tf.cast((first <= place) & (place < end), tf.float32)
    return inside / tf.cast(end - first, tf.float32)


@_constant
def resize_matrix(size: Size, new: Size, corners: bool = False) -> tf.Tensor:
    """Bilinear resizing of an axis, (new, size), without antialiasing.

    Args:
        size: of the input.
        new: of the output.
        corners: whether the outermost centres of both coincide (align_corners).
    """
    # float64: in float32 a place among a thousand is off by 1e-4 of a weight.
    place = tf.cast(tf.range(new), tf.float64)
    last = tf.cast(size, tf.float64) - 1
    if corners:
        place *= last / tf.maximum(tf.cast(new, tf.float64) - 1, 1)
    else:
        place = (place + 0.5) * (last + 1) / tf.cast(new, tf.float64) - 0.5
        place = tf.clip_by_value(place, 0, last)
    distance = place[:, None] - tf.cast(tf.range(size), tf.float64)
    return tf.cast(tf.nn.relu(1 - tf.abs(distance)), tf.float32)


def apply_axes(x: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Multiplies rows and columns of maps (batch, height, width, channels)."""
    x = tf.einsum("ih,bhwc->biwc", tf.cast(rows, x.dtype), x)
    return tf.einsum("jw,biwc->bijc", tf.cast(columns, x.dtype), x)


@register
class DoubleConv(keras.layers.Layer):
    """A 3x3 convolution, batch norm and ReLU, twice."""

    def __init__(self, middle: int, filters: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.middle = middle
        self.filters = filters
        self.convs = [conv(middle), conv(filters)]
        self.norms = [BatchNorm() for _ in range(2)]

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes the weights for maps (batch, height, width, channels)."""
        shapes = [input_shape, (*input_shape[:3], self.middle)]
        for layer, norm, shape in zip(self.convs, self.norms, shapes, strict=True):
            layer.build(shape)
            norm.build((*input_shape[:3], layer.filters))

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """(batch, height, width, channels) to (batch, height, width, filters)."""
        for layer, norm in zip(self.convs, self.norms, strict=True):
            x = tf.nn.relu(norm(layer(x), training=training))
        return x

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "middle": self.middle,
            "filters": self.filters,
        }


@register
class UnetEncoder(keras.layers.Layer):
    """Maps of an image, each half the size of the one before; five in the paper.

    Args:
        channels: of the levels, two or more; the last has half as many, because it
            is enlarged bilinearly.
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: for fewer levels.
    """

    def __init__(self, channels: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = tuple(channels)
        if len(self.channels) < 2:
            raise ValueError(
                "A U-Net must have at least two levels. Received: "
                f"channels={self.channels}"
            )
        #: Channels of the maps.
        self.depths = (*self.channels[:-1], self.channels[-1] // 2)
        self.levels = [DoubleConv(n, n) for n in self.depths]

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes the weights for images (batch, height, width, channels)."""
        depth = input_shape[-1]
        for level in self.levels:
            level.build((None, None, None, depth))
            depth = level.filters

    def call(self, x: tf.Tensor, training: bool = False) -> list[tf.Tensor]:
        """(batch, height, width, channels) to the maps, the largest first."""
        halvings = len(self.levels) - 1
        smallest = 2**halvings
        if any(side is not None and side < smallest for side in x.shape[1:3]):
            raise ValueError(
                f"This U-Net halves its images {halvings} times: their sides must be "
                f"at least {smallest}. Received: height={x.shape[1]}, "
                f"width={x.shape[2]}"
            )
        maps = []
        for level in self.levels:
            if maps:
                x = tf.nn.max_pool2d(x, 2, 2, "VALID")
            x = level(x, training=training)
            maps.append(x)
        return maps

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "channels": self.channels}


@register
class UnetDecoder(keras.layers.Layer):
    """From the smallest map up to one of the image's size, with each map beside it.

    Args:
        channels: of the encoder.
        extra: channels that each map has beyond the encoder's.
        outputs: channels of the result.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(
        self, channels: Sequence[int], extra: int, outputs: int, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.channels = tuple(channels)
        self.extra = extra
        self.outputs = outputs
        first, *middle, last = self.channels
        self.depths = [d + extra for d in (first, *middle, last // 2)]
        self.widths = [*(n // 2 for n in reversed(middle)), first]
        depth, self.steps = self.depths[-1], []
        for skip, width in zip(self.depths[-2::-1], self.widths, strict=True):
            self.steps.append(DoubleConv((skip + depth) // 2, width))
            depth = width
        self.last = keras.layers.Conv2D(outputs, 1, dtype="float32")

    def build(self, input_shape: Any) -> None:
        """Makes the weights; sizes do not matter."""
        depth = self.depths[-1]
        for skip, step in zip(self.depths[-2::-1], self.steps, strict=True):
            step.build((None, None, None, skip + depth))
            depth = step.filters
        self.last.build((None, None, None, depth))

    def call(self, maps: list[tf.Tensor], training: bool = False) -> tf.Tensor:
        """The encoder's maps to (batch, height, width, outputs), not activated."""
        x = maps[-1]
        for skip, step in zip(maps[-2::-1], self.steps, strict=True):
            axes = []
            for small, large in zip(size_of(x), size_of(skip), strict=True):
                double = resize_matrix(small, 2 * small, True)
                # An odd size lost a row or column in pooling: zeros stand for it.
                axes.append(tf.pad(double, [[0, large - 2 * small], [0, 0]]))
            x = tf.concat([skip, apply_axes(x, *axes)], -1)
            x = step(x, training=training)
        return self.last(x)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "channels": self.channels,
            "extra": self.extra,
            "outputs": self.outputs,
        }

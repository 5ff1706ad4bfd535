"""Layers that several networks share."""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lps_tf.networks.xla_cpu import convolutions

# Batch norm as PyTorch counts it: momentum .1 there is .9 here.
BATCH_NORM = {"epsilon": 1e-5, "momentum": 0.9}


def on_cpu() -> bool:
    """Whether the shortcuts here that make XLA fast on a CPU are of use."""
    return not tf.config.list_physical_devices("GPU")


def register(cls: type) -> type:
    """Registers a class with Keras under this package's name."""
    return keras.saving.register_keras_serializable("lps_tf")(cls)


def fan_in_uniform() -> keras.initializers.Initializer:
    """Uniform in +-1/sqrt(fan in), PyTorch's default and so the paper's."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


@register
def pass_through(shape: tuple, dtype: Any = None) -> tf.Tensor:
    """A kernel that starts as the average of its inputs, plus half the usual noise.

    With noise alone a block of one or two channels turns its image into a negative
    that the next ReLU cuts off, for one seed in a few, and the set then learns to
    ignore its latent.
    """
    height, width, channels, filters = shape
    noise = fan_in_uniform()(shape, dtype)
    one = np.eye(channels) if channels == filters else np.full((channels, filters), 1)
    centre = np.zeros(shape)
    centre[height // 2, width // 2] = one / one.sum(0)
    return noise / 2 + tf.constant(centre, noise.dtype)


def flatten_channels_first(x: tf.Tensor) -> tf.Tensor:
    """Flattens images channel by channel.

    Stacked images then stay one after the other, and dense weights trained on
    channels-first data need no reordering.
    """
    size = int(np.prod(x.shape[1:]))
    return tf.reshape(tf.transpose(x, (0, 3, 1, 2)), (-1, size))


def reflect_pad(x: tf.Tensor, width: int) -> tf.Tensor:
    """Pads rows and columns by reflection, without repeating the edge."""
    return tf.pad(x, [[0, 0], [width, width], [width, width], [0, 0]], mode="REFLECT")


def dense(units: int, **kwargs: Any) -> keras.layers.Dense:
    """A dense layer with PyTorch's default initialisation of the kernel."""
    return keras.layers.Dense(units, kernel_initializer=fan_in_uniform(), **kwargs)


def conv(filters: int, **kwargs: Any) -> keras.layers.Conv2D:
    """A 3x3 convolution that keeps the size, with PyTorch's default initialisation."""
    return SameConv2D(filters, 3, kernel_initializer=fan_in_uniform(), **kwargs)


def scaled_tanh(x: tf.Tensor) -> tf.Tensor:
    """Bounds a log-variance to between log(1e-3) and log(10), falling with x.

    float32 even under mixed precision. That it falls is the original's doing, and
    weights trained with it rely on it.
    """
    low, high = math.log(1e-3), math.log(10)
    return (low + high) / 2 + (low - high) / 2 * tf.tanh(tf.cast(x, tf.float32))


@tf.custom_gradient
def _channel_sum(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Sums maps (batch, height, width, channels) over all but channels."""
    flat = tf.reshape(x, (-1, x.shape[-1]))
    if on_cpu():
        # XLA's own sum over rows goes through memory column by column.
        total = (tf.ones((1, tf.shape(flat)[0]), x.dtype) @ flat)[0]
    else:
        total = tf.reduce_sum(flat, 0)
    return total, lambda dy: tf.broadcast_to(dy, tf.shape(x))


@tf.custom_gradient
def _scale_shift(x: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor) -> tuple:
    """Each channel times a scale, plus a shift."""

    def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return dy * scale, _channel_sum(dy * x), _channel_sum(dy)

    return x * scale + shift, gradient


@register
class BatchNorm(keras.layers.BatchNormalization):
    """Keras's batch norm of maps with its sums as matrix products, fast under XLA.

    Means and variances stay float32 under mixed precision. Under a distribution
    strategy each replica normalises with its own, and the moving ones are their mean;
    Keras would keep those of the first replica.

    Args:
        **kwargs: of `keras.layers.BatchNormalization`; epsilon and momentum are
            PyTorch's.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**{**BATCH_NORM, **kwargs})

    def add_weight(self, *args: Any, **kwargs: Any) -> keras.Variable:
        """Makes a weight whose assignments on replicas are averaged."""
        return super().add_weight(*args, **{**kwargs, "aggregation": "mean"})

    def call(
        self, inputs: tf.Tensor, training: bool = False, mask: None = None
    ) -> tf.Tensor:
        """(batch, height, width, channels) to the same shape."""
        x = tf.cast(inputs, tf.float32)
        mean, variance = self.moving_mean.value, self.moving_variance.value
        if training and self.trainable:
            count = tf.cast(tf.reduce_prod(tf.shape(x)[:-1]), tf.float32)
            mean = _channel_sum(x) / count
            # The mean is where this is least: its derivative there is zero.
            centred = x - tf.stop_gradient(mean)
            variance = _channel_sum(tf.square(centred)) / count
            for moving, new in (
                (self.moving_mean, mean),
                (self.moving_variance, variance),
            ):
                moving.assign(moving * self.momentum + new * (1 - self.momentum))
        scale = self.gamma.value * tf.math.rsqrt(variance + self.epsilon)
        y = _scale_shift(x, scale, self.beta.value - mean * scale)
        return tf.cast(y, self.compute_dtype)


@register
class SameConv2D(keras.layers.Conv2D):
    """A convolution that keeps the size, fast on a CPU, under XLA above all.

    See `lps_tf.networks.convolutions` for how. Elsewhere, and in other precisions than
    float32, it is the library's convolution.

    Args:
        filters: output channels.
        kernel_size: side of the kernel, odd.
        **kwargs: of `keras.layers.Conv2D`.
    """

    def __init__(self, filters: int, kernel_size: int, **kwargs: Any):
        super().__init__(filters, kernel_size, **{**kwargs, "padding": "same"})

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The fastest way there is for this kernel."""
        kernel = tf.convert_to_tensor(kernel)
        if not convolutions.in_use() or kernel.dtype != tf.float32:
            return super().convolution_op(inputs, kernel)
        return convolutions.same(inputs, kernel)


@register
class NarrowConv2D(keras.layers.Conv2D):
    """A 'valid' convolution of few channels, fast under XLA on a CPU.

    XLA's CPU convolution is slow with one to five channels: there is nothing to
    vectorise over. Here a tile of 6x6 outputs is one matrix product of the inputs it
    sees with an expanded kernel. The result is the convolution's up to the order of
    summation; on other devices the ordinary convolution runs.

    Args:
        filters: output channels.
        kernel_size: side of the kernel.
        **kwargs: of `keras.layers.Layer`.
    """

    tile = 6

    def __init__(self, filters: int, kernel_size: int, **kwargs: Any):
        kwargs = {"kernel_initializer": pass_through, **kwargs, "padding": "valid"}
        super().__init__(filters, kernel_size, **kwargs)
        if self.kernel_size[0] > self.tile + 1 or max(self.strides) > 1:
            raise ValueError(
                f"`kernel_size` must be at most {self.tile + 1} and strides 1. "
                f"Received: kernel_size={kernel_size}, strides={self.strides}"
            )

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Tiles on a CPU, the library's convolution elsewhere."""
        if not on_cpu():
            return super().convolution_op(inputs, kernel)
        kernel = tf.convert_to_tensor(kernel)
        side, _, channels, filters = kernel.shape
        height, width = inputs.shape[1] - side + 1, inputs.shape[2] - side + 1
        window = self.tile + side - 1
        x = _windows(_windows(inputs, self.tile, side, axis=1), self.tile, side, axis=3)
        rows, columns = x.shape[1], x.shape[3]
        x = tf.transpose(x, (0, 1, 3, 2, 4, 5))
        x = tf.reshape(x, (-1, window * window * channels))
        place = np.zeros((window, self.tile, side), kernel.dtype.as_numpy_dtype)
        for i in range(self.tile):
            place[range(i, i + side), i, range(side)] = 1
        kernel = tf.einsum("aik,bjl,klcd->abcijd", place, place, kernel)
        y = x @ tf.reshape(kernel, (x.shape[1], -1))
        y = tf.reshape(y, (-1, rows, columns, self.tile, self.tile, filters))
        y = tf.transpose(y, (0, 1, 3, 2, 4, 5))
        y = tf.reshape(y, (-1, rows * self.tile, columns * self.tile, filters))
        return y[:, :height, :width]


def _windows(x: tf.Tensor, tile: int, side: int, axis: int) -> tf.Tensor:
    """Splits an axis into (tiles, tile + side - 1), windows that overlap."""
    shape = x.shape.as_list()
    tiles = -(-(shape[axis] - side + 1) // tile)
    pad = [[0, 0]] * len(shape)
    pad[axis] = [0, (tiles + 1) * tile - shape[axis]]
    shape[axis : axis + 1] = [tiles + 1, tile]
    blocks = tf.reshape(tf.pad(x, pad), [-1, *shape[1:]])
    here, after = (
        tf.split(blocks, [tiles, 1], axis)[0],
        tf.split(blocks, [1, tiles], axis),
    )
    return tf.concat(
        [here, tf.split(after[1], [side - 1, tile - side + 1], axis + 1)[0]], axis + 1
    )

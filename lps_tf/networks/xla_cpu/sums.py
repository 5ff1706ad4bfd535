"""Sums of maps over all but channels, as matrix products: batch norm's inner loop."""

from collections.abc import Callable

import tensorflow as tf

from lps_tf.networks.xla_cpu import on_cpu


@tf.custom_gradient
def channel_sum(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Sums maps (batch, height, width, channels) over all but channels."""
    flat = tf.reshape(x, (-1, x.shape[-1]))  # (batch * height * width, channels)
    if on_cpu():
        # XLA's own sum over rows goes through memory column by column.
        total = (tf.ones((1, tf.shape(flat)[0]), x.dtype) @ flat)[0]  # (channels,)
    else:
        total = tf.reduce_sum(flat, 0)
    return total, lambda dy: tf.broadcast_to(dy, tf.shape(x))


@tf.custom_gradient
def scale_shift(
    x: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor
) -> tuple[tf.Tensor, Callable]:
    """Multiplies each channel by a scale and adds a shift."""

    def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return dy * scale, channel_sum(dy * x), channel_sum(dy)

    return x * scale + shift, gradient

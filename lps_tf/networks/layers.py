"""Layers that several networks share."""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar

import keras
import numpy as np
import tensorflow as tf

from lps_tf.networks.xla_cpu import compiled_for_cpu, convolutions, on_cpu

T = TypeVar("T", bound=Callable)
#: Shape of a tensor: an integer for each axis, or None where it is not known.
Shape: TypeAlias = Sequence[Any]

# Batch norm as PyTorch counts it: momentum .1 there is .9 here.
BATCH_NORM = {"epsilon": 1e-5, "momentum": 0.9}


def register(thing: T) -> T:
    """Registers a class or function with Keras under this package's name."""
    return keras.saving.register_keras_serializable("lps_tf")(thing)


def fan_in_uniform() -> keras.initializers.Initializer:
    """Uniform in +-1/sqrt(fan in), PyTorch's default and so the paper's."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


@register
def pass_through(shape: tuple, dtype: Any = None) -> tf.Tensor:
    """Initialises a kernel as the average of its inputs, plus half the usual noise.

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


@register
class BatchNorm(keras.layers.BatchNormalization):
    """Batch norm of maps, whose statistics replicas share.

    Means and variances stay float32 under mixed precision. Under a distribution
    strategy each replica normalises with its own, and the moving ones are their mean;
    Keras would keep those of the first replica.

    Args:
        **kwargs: Arguments of `keras.layers.BatchNormalization`. Epsilon and momentum
            default to PyTorch's.
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
            mean, variance = tf.nn.moments(x, (0, 1, 2))  # (channels,)
            for moving, new in (
                (self.moving_mean, mean),
                (self.moving_variance, variance),
            ):
                moving.assign(moving * self.momentum + new * (1 - self.momentum))
        scale = self.gamma.value * tf.math.rsqrt(variance + self.epsilon)
        y = x * scale + (self.beta.value - mean * scale)
        return tf.cast(y, self.compute_dtype)


@register
class SameConv2D(keras.layers.Conv2D):
    """A convolution that keeps the size, in the form that XLA runs fastest on a CPU.

    See `lps_tf.networks.xla_cpu.convolutions`. Elsewhere, and in other precisions than
    float32, it is the library's convolution.

    Args:
        filters: Number of output channels.
        kernel_size: Side of the kernel, odd.
        **kwargs: Arguments of `keras.layers.Conv2D`.
    """

    def __init__(self, filters: int, kernel_size: int, **kwargs: Any):
        super().__init__(filters, kernel_size, **{**kwargs, "padding": "same"})

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Convolves by the fastest algorithm for this kernel."""
        kernel = tf.convert_to_tensor(kernel)
        if not compiled_for_cpu() or kernel.dtype != tf.float32:
            return super().convolution_op(inputs, kernel)
        return convolutions.same(inputs, kernel)


@register
class NarrowConv2D(keras.layers.Conv2D):
    """A "valid" convolution of few channels, fast under XLA on a CPU.

    The result is the library's up to the order of summation; on other devices the
    library's convolution runs.

    Args:
        filters: Number of output channels.
        kernel_size: Side of the kernel, at most 7.
        **kwargs: Arguments of `keras.layers.Conv2D`.
    """

    def __init__(self, filters: int, kernel_size: int, **kwargs: Any):
        kwargs = {"kernel_initializer": pass_through, **kwargs, "padding": "valid"}
        super().__init__(filters, kernel_size, **kwargs)
        largest = convolutions.TILE + 1
        if self.kernel_size[0] > largest or max(self.strides) > 1:
            raise ValueError(
                f"`kernel_size` must be at most {largest} and strides 1. "
                f"Received: kernel_size={kernel_size}, strides={self.strides}"
            )

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Convolves by the fastest algorithm for so few channels."""
        if not on_cpu():
            return super().convolution_op(inputs, kernel)
        return convolutions.narrow(inputs, tf.convert_to_tensor(kernel))


class SizedLayer(keras.layers.Layer):
    """A layer whose config is what its attributes named in `sizes` hold."""

    #: Names of the constructor's arguments, each kept as an attribute.
    sizes: ClassVar[tuple[str, ...]] = ()

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {name: getattr(self, name) for name in self.sizes}
        return {**super().get_config(), **own}


class Generator(SizedLayer):
    """A generator in two calls, so that x is paid for once, whatever the latents."""

    #: Whether one set of weights serves images of any size.
    any_size: ClassVar[bool] = False

    def condition(self, x: tf.Tensor, training: bool = False) -> Any:
        """Computes what depends on x alone: a tensor, or a structure of tensors."""
        raise NotImplementedError

    def decode(self, features: Any, z: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Maps features and latents (batch, latent_dim) to images in [0, 1]."""
        raise NotImplementedError

    def call(
        self, inputs: tuple[tf.Tensor, tf.Tensor], training: bool = False
    ) -> tf.Tensor:
        """Maps (x, z) to images: condition, then decode."""
        x, z = inputs
        return self.decode(self.condition(x, training=training), z, training=training)

"""The paper's convolutional network for digits under l-infinity noise."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from lps_tf.networks.layers import Generator, Shape, SizedLayer, conv, register
from lps_tf.networks.xla_cpu.pooling import max_pool

_STRIDES = (4, 2)


def mnist_conv(
    filters: Sequence[int] = (32, 64), latent_channels: int = 128
) -> dict[str, Any]:
    """Prior, recognition and generator for images whose sides are multiples of 4.

    The latent is a map, a quarter of the image's size and `latent_channels` deep,
    flattened into one vector: 7x7x128 for the paper's 28x28x1.

    Args:
        filters: Channels of the two convolutions.
        latent_channels: Channels of the latent map.

    Returns:
        Arguments of `PerturbationSet`.
    """
    return {
        "prior": ConvEncoder(filters, latent_channels),
        "recognition": ConvEncoder(filters, latent_channels),
        "generator": ConvGenerator(filters, latent_channels),
        "likelihood": "bernoulli",
    }


class ConvBase(SizedLayer):
    """Sizes that encoder and generator share."""

    sizes = ("filters", "latent_channels")

    def __init__(
        self,
        filters: Sequence[int] = (32, 64),
        latent_channels: int = 128,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = tuple(filters)
        self.latent_channels = latent_channels


@register
class ConvEncoder(ConvBase):
    """Two convolutions with pooling, then the mean and log-variance of a map."""

    def build(self, input_shape: Shape) -> None:
        """Makes the weights for images (batch, height, width, channels)."""
        _, height, width, channels = input_shape
        if height % 4 or width % 4:
            raise ValueError(
                "mnist_conv takes images whose sides are multiples of 4. "
                f"Received: {height}x{width}"
            )
        self.layers = [conv(n, activation="relu") for n in self.filters]
        self.mean, self.log_variance = (
            conv(self.latent_channels),
            conv(self.latent_channels),
        )
        self.layers[0].build((None, height, width, channels))
        self.layers[1].build((None, height // 2, width // 2, self.filters[0]))
        for head in (self.mean, self.log_variance):
            head.build((None, height // 4, width // 4, self.filters[1]))

    def call(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps (batch, height, width, channels) to twice (batch, latent_dim)."""
        for layer in self.layers:
            x = max_pool(layer(x))
        size = math.prod(x.shape[1:3]) * self.latent_channels
        mean, log_variance = self.mean(x), self.log_variance(x)
        # From (batch, height / 4, width / 4, latent_channels) to one vector each
        return tf.reshape(mean, (-1, size)), tf.reshape(log_variance, (-1, size))


@register
class ConvGenerator(ConvBase, Generator):
    """Convolves the latent map, enlarged twice, each time beside x as channels."""

    def build(self, input_shape: Sequence[Shape]) -> None:
        """Makes the weights for inputs (x, z), x (batch, height, width, channels)."""
        _, height, width, channels = input_shape[0]
        self.map_shape = (height // 4, width // 4, self.latent_channels)
        # x at a quarter and at half its size: 1x1 convolutions of every fourth and
        # every second pixel.
        self.reduce = [keras.layers.Conv2D(channels, 1) for _ in _STRIDES]
        for layer in self.reduce:
            layer.build((None, None, None, channels))
        # Each convolution of [x, map] is the sum of one of x, computed once, and one
        # of the map.
        outputs = (self.filters[1], self.filters[0], channels)
        inputs = (self.latent_channels, self.filters[1], self.filters[0])
        self.from_image = [conv(n) for n in outputs]
        self.from_map = [conv(n, use_bias=False) for n in outputs]
        for image, latent_map, depth in zip(
            self.from_image, self.from_map, inputs, strict=True
        ):
            image.build((None, None, None, channels))
            latent_map.build((None, None, None, depth))

    def condition(self, x: tf.Tensor, training: bool = False) -> list[tf.Tensor]:
        """Computes x's share of each of the three convolutions."""
        # Not by the layer's own strides: where they are larger than the kernel, the
        # gradient of a convolution of few channels corrupts memory in TensorFlow 2.21
        # without XLA (oneDNN).
        images = [
            reduce(x[:, ::step, ::step])
            for reduce, step in zip(self.reduce, _STRIDES, strict=True)
        ]
        images.append(x)
        return [
            layer(image) for layer, image in zip(self.from_image, images, strict=True)
        ]

    def decode(
        self, features: list[tf.Tensor], z: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Maps features and latents (batch, latent_dim) to images in [0, 1]."""
        y = tf.reshape(z, (-1, *self.map_shape))
        for i, layer in enumerate(self.from_map):
            if i:
                # Nearest neighbours: twice the height and the width
                y = tf.repeat(tf.repeat(tf.nn.relu(y), 2, 1), 2, 2)
            y = features[i] + layer(y)
        return tf.sigmoid(tf.cast(y, tf.float32))

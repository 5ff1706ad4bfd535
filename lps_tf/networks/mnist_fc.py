"""The paper's fully connected network for digits under l-infinity noise."""

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from lps_tf.networks.layers import (
    Generator,
    Shape,
    SizedLayer,
    dense,
    flatten_channels_first,
    register,
)


def mnist_fc(latent_dim: int = 784, units: int = 784) -> dict[str, Any]:
    """Prior, recognition and generator for images of one size, 28x28x1 in the paper.

    Args:
        latent_dim: Size of the latent vector.
        units: Width of the hidden layers.

    Returns:
        Arguments of `PerturbationSet`.
    """
    return {
        "prior": FcEncoder(latent_dim, units),
        "recognition": FcEncoder(latent_dim, units),
        "generator": FcGenerator(latent_dim, units),
        "likelihood": "bernoulli",
    }


@register
class FcEncoder(SizedLayer):
    """A dense layer, then the mean and log-variance of a latent vector."""

    sizes = ("latent_dim", "units")

    def __init__(self, latent_dim: int, units: int = 784, **kwargs: Any):
        super().__init__(**kwargs)
        self.latent_dim = latent_dim
        self.units = units
        self.hidden = dense(units, activation="relu")
        self.mean = dense(latent_dim)
        self.log_variance = dense(latent_dim)

    def build(self, input_shape: Shape) -> None:
        """Makes the weights for images (batch, height, width, channels)."""
        self.hidden.build((None, math.prod(input_shape[1:])))
        for head in (self.mean, self.log_variance):
            head.build((None, self.units))

    def call(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps (batch, height, width, channels) to twice (batch, latent_dim)."""
        hidden = self.hidden(flatten_channels_first(x))
        return self.mean(hidden), self.log_variance(hidden)


@register
class FcGenerator(Generator):
    """A dense layer of x and z together, then one to the image."""

    sizes = ("latent_dim", "units")

    def __init__(self, latent_dim: int, units: int = 784, **kwargs: Any):
        super().__init__(**kwargs)
        self.latent_dim = latent_dim
        self.units = units
        # One dense layer of [x, z], as the sum of its two halves: that of x is
        # computed once, whatever the number of latents.
        self.from_image = dense(units)
        self.from_latent = dense(units, use_bias=False)

    def build(self, input_shape: Sequence[Shape]) -> None:
        """Makes the weights for inputs (x, z), x (batch, height, width, channels)."""
        self.image_shape = tuple(input_shape[0][1:])
        pixels = math.prod(self.image_shape)
        self.from_image.build((None, pixels))
        self.from_latent.build((None, self.latent_dim))
        self.to_image = dense(pixels)
        self.to_image.build((None, self.units))

    def condition(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Computes x's share of the hidden layer, (batch, units)."""
        return self.from_image(flatten_channels_first(x))

    def decode(
        self, features: tf.Tensor, z: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Maps features and latents (batch, latent_dim) to images in [0, 1]."""
        logits = self.to_image(tf.nn.relu(features + self.from_latent(z)))
        height, width, channels = self.image_shape
        logits = tf.reshape(logits, (-1, channels, height, width))
        logits = tf.transpose(logits, (0, 2, 3, 1))  # (batch, height, width, channels)
        return tf.sigmoid(tf.cast(logits, tf.float32))

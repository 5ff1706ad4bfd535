"""The paper's fully connected network for digits under l-infinity noise."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from lps_tf.networks.layers import dense, flatten_channels_first, register


def mnist_fc(latent_dim: int = 784, units: int = 784) -> dict[str, Any]:
    """Prior, recognition and generator for images of one size, 28x28x1 in the paper.

    Args:
        latent_dim: size of the latent vector.
        units: width of the hidden layers.

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
class FcEncoder(keras.layers.Layer):
    """A dense layer, then the mean and log-variance of a latent vector."""

    def __init__(self, latent_dim: int, units: int = 784, **kwargs: Any):
        super().__init__(**kwargs)
        self.latent_dim = latent_dim
        self.units = units
        self.hidden = dense(units, activation="relu")
        self.mean = dense(latent_dim)
        self.log_variance = dense(latent_dim)

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes the weights for images (batch, height, width, channels)."""
        self.hidden.build((None, math.prod(input_shape[1:])))
        for head in (self.mean, self.log_variance):
            head.build((None, self.units))

    def call(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """(batch, height, width, channels) to twice (batch, latent_dim)."""
        hidden = self.hidden(flatten_channels_first(x))
        return self.mean(hidden), self.log_variance(hidden)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        sizes = {"latent_dim": self.latent_dim, "units": self.units}
        return {**super().get_config(), **sizes}


@register
class FcGenerator(keras.layers.Layer):
    """A dense layer of x and z together, then one to the image."""

    def __init__(self, latent_dim: int, units: int = 784, **kwargs: Any):
        super().__init__(**kwargs)
        self.latent_dim = latent_dim
        self.units = units
        # One dense layer of [x, z], as the sum of its two halves: that of x is
        # computed once, whatever the number of latents.
        self.from_image = dense(units)
        self.from_latent = dense(units, use_bias=False)

    def build(self, input_shape: Any) -> None:
        """Makes the weights for inputs (x, z), x (batch, height, width, channels)."""
        self.image_shape = tuple(input_shape[0][1:])
        pixels = math.prod(self.image_shape)
        self.from_image.build((None, pixels))
        self.from_latent.build((None, self.latent_dim))
        self.to_image = dense(pixels)
        self.to_image.build((None, self.units))

    def condition(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The share of x in the hidden layer, (batch, units)."""
        return self.from_image(flatten_channels_first(x))

    def decode(
        self, features: tf.Tensor, z: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Features and latents (batch, latent_dim) to images in [0, 1]."""
        logits = self.to_image(tf.nn.relu(features + self.from_latent(z)))
        height, width, channels = self.image_shape
        logits = tf.reshape(logits, (-1, channels, height, width))
        return tf.sigmoid(tf.cast(tf.transpose(logits, (0, 2, 3, 1)), tf.float32))

    def call(self, inputs: Any, training: bool = False) -> tf.Tensor:
        """(x, z) to images."""
        x, z = inputs
        return self.decode(self.condition(x), z)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        sizes = {"latent_dim": self.latent_dim, "units": self.units}
        return {**super().get_config(), **sizes}

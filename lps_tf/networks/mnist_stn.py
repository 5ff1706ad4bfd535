"""The paper's network for rotated, translated and scaled digits.

The generator moves x itself, by affine maps that it computes from the latent (spatial
transformers), then refines the result by convolutions.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from lps_tf._internal import resampling
from lps_tf.networks.layers import (
    BatchNorm,
    Generator,
    NarrowConv2D,
    Shape,
    SizedLayer,
    dense,
    flatten_channels_first,
    reflect_pad,
    register,
)


def mnist_stn(
    latent_dim: int = 128,
    transformers: int = 5,
    localisation: Sequence[int] = (512, 128),
) -> dict[str, Any]:
    """Prior, recognition and generator for images of one size, 42x42x1 in the paper.

    Args:
        latent_dim: Size of the latent vector.
        transformers: Number of spatial transformers of the generator.
        localisation: Widths of the two dense layers in front of each affine map.

    Returns:
        Arguments of `PerturbationSet`.
    """
    return {
        "prior": StnEncoder(latent_dim),
        "recognition": StnEncoder(latent_dim),
        "generator": StnGenerator(latent_dim, transformers, localisation),
        "likelihood": "bernoulli",
    }


@register
class ConvBlock(keras.layers.Layer):
    """Batch norm, ReLU and a 5x5 convolution, twice; channels and size stay."""

    def build(self, input_shape: Shape) -> None:
        """Makes the layers for the input's channels."""
        channels = input_shape[-1]
        self.norms = [BatchNorm() for _ in range(2)]
        self.convs = [NarrowConv2D(channels, 5) for _ in range(2)]
        batch, height, width, _ = input_shape
        for norm, conv in zip(self.norms, self.convs, strict=True):
            norm.build(input_shape)
            conv.build((batch, height + 4, width + 4, channels))

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Maps (batch, height, width, channels) to the same shape."""
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = conv(reflect_pad(tf.nn.relu(norm(x, training=training)), 2))
        return x


@register
class StnEncoder(SizedLayer):
    """Maps images to the mean and log-variance of a latent vector.

    The recognition network is the same one, on x and x_perturbed as channels.
    """

    sizes = ("latent_dim",)

    def __init__(self, latent_dim: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.latent_dim = latent_dim
        self.block = ConvBlock()
        self.mean = dense(latent_dim)
        self.log_variance = dense(latent_dim)

    def build(self, input_shape: Shape) -> None:
        """Makes the weights for images (batch, height, width, channels)."""
        self.block.build(input_shape)
        for head in (self.mean, self.log_variance):
            head.build((None, math.prod(input_shape[1:])))

    def call(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps (batch, height, width, channels) to twice (batch, latent_dim)."""
        flat = flatten_channels_first(self.block(x, training=training))
        return self.mean(flat), self.log_variance(flat)


@register
class StnGenerator(Generator):
    """Moves x by affine maps that depend on the latent, then refines the result."""

    sizes = ("latent_dim", "transformers", "localisation")

    def __init__(
        self,
        latent_dim: int,
        transformers: int = 5,
        localisation: Sequence[int] = (512, 128),
        **kwargs: Any,
    ):
        # Images stay float32 under mixed precision: coordinates read them.
        super().__init__(autocast=False, **kwargs)
        self.latent_dim = latent_dim
        self.transformers = transformers
        self.localisation = tuple(localisation)

    def build(self, input_shape: Sequence[Shape]) -> None:
        """Makes the layers for inputs (x, z), x (batch, height, width, channels)."""
        _, height, width, channels = input_shape[0]
        self.image_size = (height, width)
        self.latent_map = dense(height * width)
        self.latent_map.build((None, self.latent_dim))
        self.locators = [
            keras.Sequential(
                [
                    keras.Input((height * width,)),
                    *[dense(n, activation="relu") for n in self.localisation],
                    keras.layers.Dense(
                        6,
                        kernel_initializer="zeros",
                        bias_initializer=_identity,  # starts as "do not move"
                        dtype="float32",  # coordinates need it
                    ),
                ],
            )
            for _ in range(self.transformers)
        ]
        self.block = ConvBlock()
        stacked = (None, height, width, self.transformers * channels)
        self.block.build(stacked)
        # Digits are mostly background: it starts black, not grey.
        black = keras.initializers.Constant(-2.0)
        self.to_image = NarrowConv2D(channels, 5, bias_initializer=black)
        self.to_image.build((None, height + 4, width + 4, stacked[-1]))

    def condition(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Tabulates each pixel's neighbours, (batch, height * width, 4 * channels)."""
        return resampling.neighbour_table(x)

    def decode(
        self, features: tf.Tensor, z: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Maps features and latents (batch, latent_dim) to images in [0, 1]."""
        latent_map = self.latent_map(z)
        # (batch, transformers, 6): the six coefficients of each affine map
        maps = tf.stack([locate(latent_map) for locate in self.locators], 1)
        maps = tf.reshape(maps, (-1, self.transformers, 2, 3))
        # (batch, height, width, transformers * channels)
        moved = resampling.affine_sample(features, maps, *self.image_size)
        logits = self.to_image(reflect_pad(self.block(moved, training=training), 2))
        return tf.sigmoid(tf.cast(logits, tf.float32))


@register
def _identity(shape: tuple, dtype: Any = None) -> tf.Tensor:
    return tf.constant([1, 0, 0, 0, 1, 0], dtype)

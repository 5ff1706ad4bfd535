"""The paper's residual network for small photographs, such as CIFAR-10."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import tensorflow as tf

from lps_tf._internal import numbers
from lps_tf.networks.layers import (
    BatchNorm,
    Generator,
    Shape,
    SizedLayer,
    conv,
    dense,
    flatten_channels_first,
    register,
    scaled_tanh,
)


def cifar10_residual(
    latent_dim: int = 512,
    blocks: int = 4,
    wide: int = 64,
    narrow: int = 16,
    neighbours: int = 0,
) -> dict[str, Any]:
    """Prior, recognition and generator for images of one size, 32x32x3 in the paper.

    The paper's generator draws every pixel anew, and loses what a few channels do not
    carry: fine texture. With `neighbours` it mixes each pixel of the pixels of x
    around it and one drawn anew, in shares that the latent decides. What a corruption
    leaves of x then stays, and blur is a mixture of neighbours.

    Args:
        latent_dim: Size of the latent vector.
        blocks: Number of residual blocks of each network.
        wide: Channels between the blocks.
        narrow: Channels inside the blocks.
        neighbours: Side of the square of pixels of x that a pixel is mixed of, odd, at
            most the image's; 1 is the same pixel of x alone. 0, the paper's, mixes
            none.

    Returns:
        Arguments of `PerturbationSet`.

    Raises:
        ValueError: If `neighbours` is even and not 0.
    """
    sizes = {"latent_dim": latent_dim, "blocks": blocks, "wide": wide, "narrow": narrow}
    return {
        "prior": ResidualEncoder(**sizes),
        "recognition": ResidualEncoder(**sizes),
        "generator": ResidualGenerator(**sizes, neighbours=neighbours),
        "likelihood": "gaussian",
    }


@register
class NormConv(SizedLayer):
    """Batch norm, ReLU and a 3x3 convolution without bias."""

    sizes = ("filters",)

    def __init__(self, filters: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.filters = filters
        self.norm = BatchNorm()
        self.conv = conv(filters, use_bias=False)

    def build(self, input_shape: Shape) -> None:
        """Makes the weights for maps (batch, height, width, channels)."""
        self.norm.build(input_shape)
        self.conv.build(input_shape)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Maps (batch, height, width, channels) to (batch, height, width, filters)."""
        return self.conv(tf.nn.relu(self.norm(x, training=training)))


class ResidualBase(SizedLayer):
    """Sizes and residual blocks that encoder and generator share."""

    sizes: ClassVar[tuple[str, ...]] = ("latent_dim", "blocks", "wide", "narrow")

    def __init__(
        self,
        latent_dim: int = 512,
        blocks: int = 4,
        wide: int = 64,
        narrow: int = 16,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.latent_dim = latent_dim
        self.blocks = blocks
        self.wide = wide
        self.narrow = narrow
        self.squeeze = [NormConv(narrow) for _ in range(blocks)]
        self.expand = [NormConv(wide) for _ in range(blocks)]
        self.first = conv(wide, use_bias=False)

    def _build_blocks(self, image_shape: Shape) -> None:
        self.first.build(image_shape)
        for layer in self.squeeze:
            layer.build((*image_shape[:3], self.wide))
        for layer in self.expand:
            layer.build((*image_shape[:3], self.narrow))

    def _residual(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        for squeeze, expand in zip(self.squeeze, self.expand, strict=True):
            x += expand(squeeze(x, training=training), training=training)
        return x


@register
class ResidualEncoder(ResidualBase):
    """Residual blocks, then the mean and bounded log-variance of a latent vector."""

    def build(self, input_shape: Shape) -> None:
        """Makes the weights for images (batch, height, width, channels)."""
        self._build_blocks(input_shape)
        self.last = NormConv(self.narrow)
        self.last.build((*input_shape[:3], self.wide))
        self.norm = BatchNorm()
        self.norm.build((*input_shape[:3], self.narrow))
        self.mean, self.log_variance = dense(self.latent_dim), dense(self.latent_dim)
        for head in (self.mean, self.log_variance):
            head.build((None, math.prod(input_shape[1:3]) * self.narrow))

    def call(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps (batch, height, width, channels) to twice (batch, latent_dim)."""
        x = self.last(self._residual(self.first(x), training), training=training)
        # (batch, narrow * height * width)
        flat = flatten_channels_first(tf.nn.relu(self.norm(x, training=training)))
        return self.mean(flat), scaled_tanh(self.log_variance(flat))


@register
class ResidualGenerator(ResidualBase, Generator):
    """The latent as one more channel of x, residual blocks, and the image.

    Args:
        neighbours: Side of the square of pixels of x that a pixel is mixed of; see
            `cifar10_residual`.
        **kwargs: Sizes, and arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `neighbours` is even and not 0.
    """

    sizes = (*ResidualBase.sizes, "neighbours")

    def __init__(self, neighbours: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.neighbours = numbers.count("neighbours", neighbours, least=0)
        if neighbours and neighbours % 2 == 0:
            raise ValueError(
                "`neighbours` must be odd, so that a pixel is in the middle, or 0. "
                f"Received: neighbours={neighbours}"
            )

    def build(self, input_shape: Sequence[Shape]) -> None:
        """Makes the weights for inputs (x, z), x (batch, height, width, channels)."""
        image_shape = input_shape[0]
        _, height, width, channels = image_shape
        self.image_size = (height, width)
        self.latent_map = dense(height * width)
        self.latent_map.build((None, self.latent_dim))
        # The first convolution of [x, map]: `first` is its half of x.
        self._build_blocks(image_shape)
        self.from_map = conv(self.wide, use_bias=False)
        self.from_map.build((None, height, width, 1))
        # Beside the image, the shares of each neighbour and of the image itself
        shares = self.neighbours**2 + 1 if self.neighbours else 0
        self.channels = channels
        self.last = NormConv(channels + shares)
        self.last.build((None, height, width, self.wide))

    def condition(self, x: tf.Tensor, training: bool = False) -> Any:
        """Computes x's share of the first convolution, (batch, height, width, wide).

        With neighbours, also those of each pixel, (batch, height, width, neighbours^2,
        channels).
        """
        features = self.first(x)
        if not self.neighbours:
            return features
        return features, _windows(tf.cast(x, tf.float32), self.neighbours)

    def decode(self, features: Any, z: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Maps features and latents (batch, latent_dim) to images in [0, 1]."""
        features, windows = features if self.neighbours else (features, None)
        latent_map = tf.reshape(self.latent_map(z), (-1, *self.image_size, 1))
        y = self._residual(features + self.from_map(latent_map), training)
        y = tf.cast(self.last(y, training=training), tf.float32)
        image = tf.sigmoid(y[..., : self.channels])
        if windows is None:
            return image
        shares = tf.nn.softmax(y[..., self.channels :])[..., None]
        mixed = tf.reduce_sum(shares[..., :-1, :] * windows, -2)
        return mixed + shares[..., -1, :] * image


def _windows(x: tf.Tensor, side: int) -> tf.Tensor:
    """The pixels around each, (batch, height, width, side^2, channels)."""
    _, height, width, _ = x.shape
    pad = [side // 2] * 2
    x = tf.pad(x, [[0, 0], pad, pad, [0, 0]], "SYMMETRIC")
    places = itertools.product(range(side), repeat=2)
    return tf.stack([x[:, i : i + height, j : j + width] for i, j in places], -2)

"""The paper's network for lighting: a U-Net with a latent at each of its levels."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from lps_tf.networks.layers import (
    Generator,
    Shape,
    SizedLayer,
    dense,
    fan_in_uniform,
    flatten_channels_first,
    register,
    scaled_tanh,
)
from lps_tf.networks.unet import UnetDecoder, UnetEncoder
from lps_tf.networks.xla_cpu.axes import (
    apply_axes,
    pool_matrix,
    resize_matrix,
    size_of,
)

_CHANNELS = (64, 128, 256, 512, 1024)
_LATENTS = (128, 64, 32, 16, 16)
_POOL = ((125, 187), (62, 93), (31, 46), (15, 23), (7, 11))
#: Channels of a level before its pooling.
_SQUEEZED = 16


def mi_unet(
    channels: Sequence[int] = _CHANNELS,
    latents: Sequence[int] = _LATENTS,
    pool: Sequence[Sequence[int]] = _POOL,
) -> dict[str, Any]:
    """Prior, recognition and generator for images of any size, 125x187x3 in the paper.

    One set of weights serves every size from the smallest pool's on: maps are pooled
    to fixed sizes for the latent, and the latent's maps are enlarged again.

    Args:
        channels: Channels of each level, five levels in the paper; see `UnetEncoder`.
        latents: Latent dimensions of each level; u is all of them in one vector.
        pool: (height, width) to which each level is pooled.

    Returns:
        Arguments of `PerturbationSet`.

    Raises:
        ValueError: If these differ in their number of levels, or have fewer than two.
    """
    sizes: dict[str, Any] = {"channels": channels, "latents": latents, "pool": pool}
    return {
        "prior": MultiscaleEncoder(**sizes),
        "recognition": MultiscaleEncoder(**sizes),
        "generator": MultiscaleGenerator(**sizes),
        "likelihood": "gaussian",
    }


class UnetBase(SizedLayer):
    """Sizes and U-Net encoder that `mi_unet`'s encoder and generator share."""

    sizes = ("channels", "latents", "pool")

    def __init__(
        self,
        channels: Sequence[int] = _CHANNELS,
        latents: Sequence[int] = _LATENTS,
        pool: Sequence[Sequence[int]] = _POOL,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not len(channels) == len(latents) == len(pool):
            raise ValueError(
                "`channels`, `latents` and `pool` must have one entry per level. "
                f"Received: channels={channels}, latents={latents}, pool={pool}"
            )
        self.channels = tuple(channels)
        self.latents = tuple(latents)
        self.pool = tuple(tuple(size) for size in pool)
        self.unet = UnetEncoder(channels)


@register
class MultiscaleEncoder(UnetBase):
    """Computes mean and bounded log-variance of each level's latent, in one vector."""

    def build(self, input_shape: Shape) -> None:
        """Makes the weights for images (batch, height, width, channels)."""
        self.unet.build(input_shape)
        self.squeeze = [
            keras.layers.Conv2D(
                _SQUEEZED, 1, activation="relu", kernel_initializer=fan_in_uniform()
            )
            for _ in self.latents
        ]
        self.means = [dense(n) for n in self.latents]
        self.log_variances = [dense(n) for n in self.latents]
        for i, depth in enumerate(self.unet.depths):
            self.squeeze[i].build((None, None, None, depth))
            for head in (self.means[i], self.log_variances[i]):
                head.build((None, math.prod(self.pool[i]) * _SQUEEZED))

    def call(self, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps (batch, height, width, channels) to twice (batch, sum of latents)."""
        means, log_variances = [], []
        for i, level in enumerate(self.unet(x, training=training)):
            # Fixed sizes, whatever the image's, let dense layers read them.
            rows, columns = map(pool_matrix, size_of(level), self.pool[i])
            pooled = apply_axes(self.squeeze[i](level), rows, columns)
            flat = flatten_channels_first(pooled)  # (batch, 16 * pool area)
            means.append(self.means[i](flat))
            log_variances.append(self.log_variances[i](flat))
        return tf.concat(means, -1), scaled_tanh(tf.concat(log_variances, -1))


@register
class MultiscaleGenerator(UnetBase, Generator):
    """A U-Net whose maps each get one more channel, from that level's latent."""

    any_size = True

    def build(self, input_shape: Sequence[Shape]) -> None:
        """Makes the weights for inputs (x, z), x (batch, height, width, channels)."""
        self.unet.build(input_shape[0])
        self.latent_maps = [dense(math.prod(size)) for size in self.pool]
        for layer, latents in zip(self.latent_maps, self.latents, strict=True):
            layer.build((None, latents))
        self.decoder = UnetDecoder(self.channels, extra=1, outputs=input_shape[0][-1])
        self.decoder.build(None)

    def condition(self, x: tf.Tensor, training: bool = False) -> list[tf.Tensor]:
        """Computes the U-Net's maps of x, about half of the generator's work."""
        return self.unet(x, training=training)

    def decode(
        self, features: list[tf.Tensor], z: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Maps features and latents (batch, sum of latents) to images in [0, 1]."""
        maps = []
        parts = tf.split(z, self.latents, axis=-1)
        for level, part, dense_map, size in zip(
            features, parts, self.latent_maps, self.pool, strict=True
        ):
            latent_map = tf.reshape(dense_map(part), (-1, *size, 1))
            rows, columns = map(resize_matrix, size, size_of(level))
            latent_map = tf.cast(apply_axes(latent_map, rows, columns), level.dtype)
            # (batch, height, width, channels + 1), of this level
            maps.append(tf.concat([level, latent_map], -1))
        image = self.decoder(maps, training=training)
        return tf.sigmoid(tf.cast(image, tf.float32))

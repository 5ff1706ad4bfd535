"""The U-Net's two halves, shared by `mi_unet` and the segmenter."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from lps_tf.networks.layers import BatchNorm, Shape, SizedLayer, conv, register
from lps_tf.networks.xla_cpu.axes import apply_axes, resize_matrix, size_of
from lps_tf.networks.xla_cpu.pooling import max_pool


@register
class DoubleConv(SizedLayer):
    """A 3x3 convolution, batch norm and ReLU, twice."""

    sizes = ("middle", "filters")

    def __init__(self, middle: int, filters: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.middle = middle
        self.filters = filters
        self.convs = [conv(middle), conv(filters)]
        self.norms = [BatchNorm() for _ in range(2)]

    def build(self, input_shape: Shape) -> None:
        """Makes the weights for maps (batch, height, width, channels)."""
        shapes = [input_shape, (*input_shape[:3], self.middle)]
        for layer, norm, shape in zip(self.convs, self.norms, shapes, strict=True):
            layer.build(shape)
            norm.build((*input_shape[:3], layer.filters))

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Maps (batch, height, width, channels) to (batch, height, width, filters)."""
        for layer, norm in zip(self.convs, self.norms, strict=True):
            x = tf.nn.relu(norm(layer(x), training=training))
        return x


@register
class UnetEncoder(SizedLayer):
    """Maps of an image, each half the size of the one before; five in the paper.

    Args:
        channels: Channels of each level, two levels or more. The last has half as
            many, because it is enlarged bilinearly.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: For fewer levels.
    """

    sizes = ("channels",)

    def __init__(self, channels: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = tuple(channels)
        if len(self.channels) < 2:
            raise ValueError(
                "A U-Net must have at least two levels. Received: "
                f"channels={self.channels}"
            )
        #: Channels of each map.
        self.depths = (*self.channels[:-1], self.channels[-1] // 2)
        self.levels = [DoubleConv(n, n) for n in self.depths]

    def build(self, input_shape: Shape) -> None:
        """Makes the weights for images (batch, height, width, channels)."""
        depth = input_shape[-1]
        for level in self.levels:
            level.build((None, None, None, depth))
            depth = level.filters

    def call(self, x: tf.Tensor, training: bool = False) -> list[tf.Tensor]:
        """Maps images (batch, height, width, channels) to maps, the largest first."""
        halvings = len(self.levels) - 1
        smallest = 2**halvings
        if any(side is not None and side < smallest for side in x.shape[1:3]):
            raise ValueError(
                f"This U-Net halves its images {halvings} times: their sides must be "
                f"at least {smallest}. Received: height={x.shape[1]}, "
                f"width={x.shape[2]}"
            )
        maps: list[tf.Tensor] = []
        for level in self.levels:
            if maps:
                x = max_pool(x)
            x = level(x, training=training)
            maps.append(x)
        return maps


@register
class UnetDecoder(SizedLayer):
    """Enlarges the smallest map step by step, with each level's map as skip.

    Args:
        channels: Channels of the encoder's levels.
        extra: Number of channels that each map has beyond the encoder's.
        outputs: Channels of the result.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    sizes = ("channels", "extra", "outputs")

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

    def build(self, input_shape: Sequence[Shape] | None) -> None:
        """Makes the weights, whatever the images' size."""
        depth = self.depths[-1]
        for skip, step in zip(self.depths[-2::-1], self.steps, strict=True):
            step.build((None, None, None, skip + depth))
            depth = step.filters
        self.last.build((None, None, None, depth))

    def call(self, maps: list[tf.Tensor], training: bool = False) -> tf.Tensor:
        """Maps the encoder's maps to (batch, height, width, outputs), not activated."""
        x = maps[-1]
        for skip, step in zip(maps[-2::-1], self.steps, strict=True):
            axes = []
            for small, large in zip(size_of(x), size_of(skip), strict=True):
                double = resize_matrix(small, 2 * small, True)
                # An odd size lost a row or column in pooling: zeros stand for it.
                axes.append(tf.pad(double, [[0, large - 2 * small], [0, 0]]))
            # (batch, height, width, skip + width of the step before)
            x = tf.concat([skip, apply_axes(x, *axes)], -1)
            x = step(x, training=training)
        return self.last(x)

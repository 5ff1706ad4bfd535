"""Classifiers: any Keras model from images to logits will do; these are the paper's."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from lps_tf.networks.layers import BatchNorm, SameConv2D, dense, register
from lps_tf.networks.unet import UnetDecoder, UnetEncoder


def small_cnn(
    image_shape: Sequence[int],
    num_classes: int,
    filters: Sequence[int] = (16, 32),
    units: int = 128,
) -> keras.Model:
    """A small convolutional classifier of digits: two 4x4 convolutions of stride 2.

    Args:
        image_shape: (height, width, channels).
        num_classes: Number of classes, the length of the logits; 1 gives one logit.
        filters: Channels of each convolution.
        units: Width of the dense layer.

    Returns:
        A model from images (batch, *image_shape) to logits (batch, num_classes).
    """
    layers = [keras.Input(tuple(image_shape))]
    for width in filters:
        layers.append(keras.layers.Conv2D(width, 4, 2, "same", activation="relu"))
    layers += [keras.layers.Flatten(), keras.layers.Dense(units, "relu")]
    # Logits stay float32 under mixed precision: losses and bounds depend on them.
    layers.append(keras.layers.Dense(num_classes, dtype="float32"))
    return keras.Sequential(layers, name="small_cnn")


def mnist_conv(
    image_shape: Sequence[int] = (28, 28, 1), num_classes: int = 10, units: int = 1024
) -> keras.Model:
    """The paper's classifier of digits: two 4x4 convolutions of stride 2.

    Args:
        image_shape: (height, width, channels), sides multiples of 4.
        num_classes: Number of classes, the length of the logits; 1 gives one logit.
        units: Width of the dense layer.

    Returns:
        A model from images (batch, *image_shape) to logits (batch, num_classes).
    """
    layers = [keras.Input(tuple(image_shape))]
    for i, filters in ((0, 32), (2, 64)):
        # PyTorch pads by one on every side, "same" would not.
        layers.append(keras.layers.ZeroPadding2D(1))
        layers.append(_conv(filters, 4, f"{i}", strides=2, activation="relu"))
    # Channels first, so that dense weights of the original fit.
    layers.append(keras.layers.Permute((3, 1, 2)))
    layers.append(keras.layers.Flatten())
    layers.append(dense(units, activation="relu", name="5"))
    layers.append(dense(num_classes, dtype="float32", name="7"))
    return keras.Sequential(layers, name="mnist_conv_classifier")


def wide_resnet(
    image_shape: Sequence[int] = (32, 32, 3),
    num_classes: int = 10,
    depth: int = 28,
    width: int = 10,
    mean: Sequence[float] = (0.4914, 0.4822, 0.4465),
    std: Sequence[float] = (0.2023, 0.1994, 0.2010),
) -> keras.Model:
    """The paper's classifier of small photographs, with its input normalisation.

    Args:
        image_shape: (height, width, channels).
        num_classes: Number of classes, the length of the logits; 1 gives one logit.
        depth: Number of layers, 6 n + 4.
        width: Factor on the channels 16, 32 and 64.
        mean: Mean of each channel, which is subtracted; defaults to CIFAR-10's.
        std: Standard deviation of each channel, which divides; likewise.

    Returns:
        A model from images (batch, *image_shape) in [0, 1] to logits.

    Raises:
        ValueError: If `depth` is not 6 n + 4.
    """
    blocks, rest = divmod(depth - 4, 6)
    if rest or blocks < 1:
        raise ValueError(f"`depth` must be 6 n + 4. Received: depth={depth}")
    variance = [s**2 for s in std]
    inputs = keras.Input(tuple(image_shape))
    x = keras.layers.Normalization(mean=list(mean), variance=variance)(inputs)
    x = _same_conv(x, 16, 1, "conv1")
    for group, filters in enumerate((16 * width, 32 * width, 64 * width), 1):
        for i in range(blocks):
            name = f"block{group}_layer_{i}"
            strides = 2 if group > 1 and i == 0 else 1
            active = _norm_relu(x, f"{name}_bn1")
            if x.shape[-1] != filters:
                x = _conv(
                    filters, 1, f"{name}_convShortcut", strides=strides, use_bias=False
                )(active)
            y = _same_conv(active, filters, strides, f"{name}_conv1")
            y = _same_conv(_norm_relu(y, f"{name}_bn2"), filters, 1, f"{name}_conv2")
            x = keras.layers.Add()([x, y])
    x = keras.layers.GlobalAveragePooling2D()(_norm_relu(x, "bn1"))
    logits = dense(num_classes, dtype="float32", name="fc")(x)
    return keras.Model(inputs, logits, name=f"wide_resnet_{depth}_{width}")


@register
class Unet(keras.Model):
    """The paper's segmenter, for images of any size: logits of every pixel.

    Args:
        num_classes: Number of classes; 1 gives one logit per pixel.
        channels: Channels of each level, two levels or more; five in the paper.
        **kwargs: Arguments of `keras.Model`.
    """

    def __init__(
        self,
        num_classes: int = 36,
        channels: Sequence[int] = (64, 128, 256, 512, 1024),
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.channels = tuple(channels)
        self.encoder = UnetEncoder(channels)
        self.decoder = UnetDecoder(channels, extra=0, outputs=num_classes)

    def build(self, input_shape: Sequence[Any]) -> None:
        """Makes the weights for images (batch, height, width, channels)."""
        self.encoder.build(input_shape)
        self.decoder.build(None)
        self._depth = input_shape[-1]
        self.built = True

    @property
    def input_shape(self) -> tuple:
        """Shape (None, None, None, channels), as a functional model has it."""
        return (None, None, None, self._depth)

    @property
    def output_shape(self) -> tuple:
        """Shape (None, None, None, num_classes), as a functional model has it."""
        return (None, None, None, self.num_classes)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Maps images (batch, height, width, channels) to logits of each pixel."""
        return self.decoder(self.encoder(x, training=training), training=training)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "num_classes": self.num_classes,
            "channels": self.channels,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Unet":
        """Makes the model of a config."""
        config = dict(config)
        if "classes" in config:  # saved before version 0.2
            config["num_classes"] = config.pop("classes")
        return cls(**config)


def _he() -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def _conv(filters: int, side: int, name: str, **kwargs: Any) -> keras.layers.Conv2D:
    return keras.layers.Conv2D(
        filters, side, padding="valid", kernel_initializer=_he(), name=name, **kwargs
    )


def _same_conv(x: Any, filters: int, strides: int, name: str) -> Any:
    if strides == 1:
        return SameConv2D(
            filters, 3, use_bias=False, kernel_initializer=_he(), name=name
        )(x)
    # One row or column of zeros on each side, which "same" does not give at stride 2.
    x = keras.layers.ZeroPadding2D(1)(x)
    return _conv(filters, 3, name, strides=strides, use_bias=False)(x)


def _norm_relu(x: Any, name: str) -> Any:
    x = BatchNorm(name=name)(x)
    return keras.layers.ReLU()(x)

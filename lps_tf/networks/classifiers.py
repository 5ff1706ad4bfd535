"""Classifiers: any Keras model that maps images to logits will do; these are ours."""

from collections.abc import Sequence

import keras


def small_cnn(
    image_shape: Sequence[int],
    classes: int,
    filters: Sequence[int] = (16, 32),
    units: int = 128,
) -> keras.Model:
    """A small convolutional classifier of digits: two 4x4 convolutions of stride 2.

    Args:
        image_shape: (height, width, channels).
        classes: number of classes, the length of the logits.
        filters: width of each convolution.
        units: width of the dense layer.

    Returns:
        A model from images (batch, *image_shape) to logits (batch, classes).
    """
    layers = [keras.Input(tuple(image_shape))]
    for width in filters:
        layers.append(keras.layers.Conv2D(width, 4, 2, "same", activation="relu"))
    layers += [keras.layers.Flatten(), keras.layers.Dense(units, "relu")]
    # Logits stay float32 under mixed precision: losses and bounds depend on them.
    layers.append(keras.layers.Dense(classes, dtype="float32"))
    return keras.Sequential(layers, name="small_cnn")

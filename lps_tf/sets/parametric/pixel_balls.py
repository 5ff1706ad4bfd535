"""Balls of pixels: every change of an image that is small in a norm."""

import math
from typing import ClassVar

import keras
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf.sets.parametric.base import (
    ImageShape,
    ParametricSet,
    known_size,
    normal_cdf,
    typical_radius,
)
from lps_tf.sets.parametric.resolvable import ResolvableSet


def _number_of_pixels(image_shape: ImageShape) -> int:
    known_size(image_shape)
    return math.prod(checks.count("image_shape", n or 0) for n in image_shape)


@keras.saving.register_keras_serializable("lps_tf")
class L2(ResolvableSet):
    """x + u, clipped to [0, 1]: the ball of u is the pixel l2 ball of that radius.

    Certificates in it are those of Cohen, Rosenfeld and Kolter (2019).

    Args:
        image_shape: (height, width, channels) of the images.
        radius: Radius of the ball, in l2 distance of images in [0, 1].

    Raises:
        ValueError: If the radius is not positive, or a size is not known.
    """

    def __init__(self, image_shape: ImageShape, radius: float):
        super().__init__(image_shape, _number_of_pixels(image_shape), radius)

    def parameters(self, u: tf.Tensor) -> dict[str, tf.Tensor]:
        """The change of each pixel, (batch, height, width, channels)."""
        return {"change": tf.reshape(u, (-1, *self.image_shape))}

    def apply(self, x: tf.Tensor, parameters: dict[str, tf.Tensor]) -> tf.Tensor:
        """Images with the change added."""
        return x + parameters["change"]


@keras.saving.register_keras_serializable("lps_tf")
class Linf(ParametricSet):
    """Every pixel changes by at most epsilon: x + epsilon (2 Phi(u) - 1), clipped.

    Phi is the distribution function of N(0, 1), so that u from N(0, I) gives uniform
    noise in +-epsilon on every pixel, the paper's: `LatentNoise(pset, sigma=1.0)`. A
    ball of radius r in d dimensions holds all changes of at most
    epsilon (2 Phi(r / sqrt(d)) - 1) on every pixel at once, and changes of single
    pixels up to epsilon (2 Phi(r) - 1). No ball holds the corners of the box.

    Args:
        image_shape: (height, width, channels) of the images.
        epsilon: The most by which a pixel changes, of a range of 1.
        radius: Radius of the ball; None for that of the ball that holds 99% of N(0, I).

    Raises:
        ValueError: If a number is not positive, or a size is not known.
    """

    FIXED: ClassVar[tuple[str, ...]] = ("image_shape", "epsilon", "radius")

    def __init__(
        self, image_shape: ImageShape, epsilon: float, radius: float | None = None
    ):
        dim = _number_of_pixels(image_shape)
        self.epsilon = checks.positive("epsilon", epsilon)
        super().__init__(
            image_shape, dim, typical_radius(dim) if radius is None else radius
        )

    def parameters(self, u: tf.Tensor) -> dict[str, tf.Tensor]:
        """The change of each pixel, (batch, height, width, channels)."""
        change = self.epsilon * (2.0 * normal_cdf(u) - 1.0)
        return {"change": tf.reshape(change, (-1, *self.image_shape))}

    def apply(self, x: tf.Tensor, parameters: dict[str, tf.Tensor]) -> tf.Tensor:
        """Images with the change added."""
        return x + parameters["change"]

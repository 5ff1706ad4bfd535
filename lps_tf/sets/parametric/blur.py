"""Gaussian blur of images."""

from typing import ClassVar

import keras
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf.sets.parametric.base import ImageShape, ParametricSet, size_of


@keras.saving.register_keras_serializable("lps_tf")
class GaussianBlur(ParametricSet):
    """Images blurred by a Gaussian of standard deviation sigma * |u|, u one number.

    In the ball of radius 1 it is at most sigma; u = 0 does not blur, and blurs of less
    than a quarter of a pixel hardly do, nor have they a gradient. Outside of the image
    its border goes on. The kernel is cut off at 4 sigma, so that larger u, as
    noise has, blur a little less than they should.

    Variances of blurs add up, but no blur takes another one back: the set does not
    resolve, and its certificates are of the clean image.

    Args:
        image_shape: (height, width, channels) of the images; height and width may be
            None.
        sigma: The largest standard deviation in the ball of radius 1, in pixels.
        radius: Radius of the ball.

    Raises:
        ValueError: If a number is not positive.
    """

    FIXED: ClassVar[tuple[str, ...]] = ("image_shape", "sigma", "radius")

    def __init__(self, image_shape: ImageShape, sigma: float, radius: float = 1.0):
        self.sigma = checks.positive("sigma", sigma)
        super().__init__(image_shape, 1, radius)

    def parameters(self, u: tf.Tensor) -> dict[str, tf.Tensor]:
        """The standard deviation in pixels, (batch,)."""
        return {"sigma": self.sigma * tf.abs(u[:, 0])}

    def apply(self, x: tf.Tensor, parameters: dict[str, tf.Tensor]) -> tf.Tensor:
        """Images blurred, along one axis after the other."""
        reach = max(1, int(4 * self.sigma + 0.5))
        offsets = tf.range(-reach, reach + 1, dtype=tf.float32)
        # Below a hundredth of a pixel, where nothing is blurred, gradients would be
        # infinity times zero.
        variance = tf.maximum(tf.square(parameters["sigma"]), 1e-4)
        weights = tf.nn.softmax(-tf.square(offsets) / (2 * variance[:, None]))
        for axis in (1, 2):
            size = size_of(x, axis)
            inside = [
                tf.clip_by_value(tf.range(size) + k, 0, size - 1)
                for k in range(-reach, reach + 1)
            ]
            x = tf.add_n(
                [
                    weights[:, i, None, None, None] * tf.gather(x, index, axis=axis)
                    for i, index in enumerate(inside)
                ]
            )
        return x

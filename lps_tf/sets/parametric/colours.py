"""Brightness, contrast, and all that a colour can do."""

import math
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf.sets.parametric.base import (
    ImageShape,
    ParametricSet,
    checked_factor,
)
from lps_tf.sets.parametric.resolvable import ResolvableSet

#: What each pixel's colour is compared with; of the eye's brightness, ITU-R BT.601.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# From RGB to luma and two axes of colour (YIQ): hues are angles in their plane.
_YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def _per_image(values: tf.Tensor) -> tf.Tensor:
    """(batch,) -> (batch, 1, 1, 1)."""
    return values[:, None, None, None]


@keras.saving.register_keras_serializable("lps_tf")
class Brightness(ResolvableSet):
    """x + shift * u, u one number: the ball of radius 1 is a change of +-shift.

    Args:
        image_shape: (height, width, channels) of the images; height and width may be
            None.
        shift: The most by which brightness changes, of a range of 1.
        radius: Radius of the ball.

    Raises:
        ValueError: If a number is not positive.
    """

    FIXED: ClassVar[tuple[str, ...]] = ("image_shape", "shift", "radius")

    def __init__(self, image_shape: ImageShape, shift: float, radius: float = 1.0):
        self.shift = checks.positive("shift", shift)
        super().__init__(image_shape, 1, radius)

    def parameters(self, u: tf.Tensor) -> dict[str, tf.Tensor]:
        """The shift, (batch,)."""
        return {"shift": self.shift * u[:, 0]}

    def apply(self, x: tf.Tensor, parameters: dict[str, tf.Tensor]) -> tf.Tensor:
        """Images with the shift added."""
        return x + _per_image(parameters["shift"])


@keras.saving.register_keras_serializable("lps_tf")
class Contrast(ResolvableSet):
    """1/2 + factor^u (x - 1/2), u one number: contrast, in logarithms.

    In the ball of radius 1 it is from 1 / factor to factor times what it was.

    Args:
        image_shape: (height, width, channels) of the images; height and width may be
            None.
        factor: The most by which contrast is multiplied or divided, above 1.
        radius: Radius of the ball.

    Raises:
        ValueError: If the factor is not above 1, or the radius is not positive.
    """

    FIXED: ClassVar[tuple[str, ...]] = ("image_shape", "factor", "radius")

    def __init__(self, image_shape: ImageShape, factor: float, radius: float = 1.0):
        self.factor = checked_factor("factor", factor)
        super().__init__(image_shape, 1, radius)

    def parameters(self, u: tf.Tensor) -> dict[str, tf.Tensor]:
        """The factor, (batch,)."""
        return {"factor": tf.exp(math.log(self.factor) * u[:, 0])}

    def apply(self, x: tf.Tensor, parameters: dict[str, tf.Tensor]) -> tf.Tensor:
        """Images with their distance from grey multiplied."""
        return 0.5 + _per_image(parameters["factor"]) * (x - 0.5)


@keras.saving.register_keras_serializable("lps_tf")
class ColourJitter(ParametricSet):
    """Brightness, contrast, saturation and hue of colour images, in this order.

    Ranges that are None are no dimensions of u; those given are, in the order of the
    arguments. The ball of radius 1 is the ellipsoid in the box of their ranges. u = 0
    changes nothing. Only the result is clipped to [0, 1], no step on the way.

    Args:
        image_shape: (height, width, 3) of the images; height and width may be None.
        brightness: The most that is added, as of `Brightness`.
        contrast: The most by which the distance from mid-grey is multiplied or divided,
            above 1, as of `Contrast`.
        saturation: The most by which the distance from the pixel's own grey is
            multiplied or divided, above 1.
        hue: The most by which hues turn, in degrees.
        radius: Radius of the ball.

    Raises:
        ValueError: If no range is given, a number is out of its range, or images do
            not have three channels.
    """

    FIXED: ClassVar[tuple[str, ...]] = (
        "image_shape",
        "brightness",
        "contrast",
        "saturation",
        "hue",
        "radius",
    )

    def __init__(
        self,
        image_shape: ImageShape,
        *,
        brightness: float | None = None,
        contrast: float | None = None,
        saturation: float | None = None,
        hue: float | None = None,
        radius: float = 1.0,
    ):
        if tuple(image_shape)[-1:] != (3,):
            raise ValueError(
                "`image_shape` must have three channels, red, green and blue. "
                f"Received: image_shape={image_shape}"
            )
        self.brightness = (
            None if brightness is None else checks.positive("brightness", brightness)
        )
        self.contrast = (
            None if contrast is None else checked_factor("contrast", contrast)
        )
        self.saturation = (
            None if saturation is None else checked_factor("saturation", saturation)
        )
        self.hue = None if hue is None else checks.positive("hue", hue)
        given = (self.brightness, self.contrast, self.saturation, self.hue)
        dim = sum(value is not None for value in given)
        if not dim:
            raise ValueError(
                "Give at least one of `brightness`, `contrast`, `saturation` and "
                "`hue`. Received: None for all of them"
            )
        super().__init__(image_shape, dim, radius)

    def parameters(self, u: tf.Tensor) -> dict[str, tf.Tensor]:
        """Of brightness, contrast, saturation and hue those that vary, each (batch,).

        Brightness is what is added, hue an angle in degrees, the others are factors.
        """
        columns, found = iter(tf.unstack(u, axis=1)), {}
        if self.brightness is not None:
            found["brightness"] = self.brightness * next(columns)
        if self.contrast is not None:
            found["contrast"] = tf.exp(math.log(self.contrast) * next(columns))
        if self.saturation is not None:
            found["saturation"] = tf.exp(math.log(self.saturation) * next(columns))
        if self.hue is not None:
            found["hue"] = self.hue * next(columns)
        return found

    def apply(self, x: tf.Tensor, parameters: dict[str, tf.Tensor]) -> tf.Tensor:
        """Images changed by parameters as `parameters` gives them."""
        if "brightness" in parameters:
            x += _per_image(parameters["brightness"])
        if "contrast" in parameters:
            x = 0.5 + _per_image(parameters["contrast"]) * (x - 0.5)
        if "saturation" in parameters:
            grey = tf.reduce_sum(LUMA * x, -1, keepdims=True)
            x = grey + _per_image(parameters["saturation"]) * (x - grey)
        if "hue" in parameters:
            x = _turned(x, parameters["hue"] * (math.pi / 180))
        return x


def _turned(x: tf.Tensor, angle: tf.Tensor) -> tf.Tensor:
    """Colours turned about grey by angles (batch,) in radians; luma stays."""
    cos, sin = tf.cos(angle), tf.sin(angle)
    one, zero = tf.ones_like(cos), tf.zeros_like(cos)
    rows = [one, zero, zero, zero, cos, -sin, zero, sin, cos]
    turn = tf.reshape(tf.stack(rows, -1), (-1, 3, 3))
    there, back = np.float32(_YIQ), np.float32(np.linalg.inv(_YIQ))
    matrices = tf.einsum("ij,bjk,kl->bil", back, turn, there)  # (batch, 3, 3)
    return tf.einsum("bij,bhwj->bhwi", matrices, x)

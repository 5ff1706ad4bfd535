"""Rotation, translation, scaling and shear of images."""

import math
from typing import ClassVar

import keras
import tensorflow as tf

from lps_tf._internal import resampling
from lps_tf.sets.parametric.base import (
    ImageShape,
    Map,
    ParametricSet,
    Range,
    checked_map,
    checked_range,
    in_range,
    known_size,
    typical_radius,
)

# Noise may lead the linear map to scales of zero and less, which show nothing.
_LEAST_SCALE = 0.1


@keras.saving.register_keras_serializable("lps_tf")
class Affine(ParametricSet):
    """Images sheared, rotated and scaled about their centre, then translated.

    Sampling is bilinear, and outside of the image its border goes on. Ranges that are
    None are no dimensions of u; those given are, in the order of the arguments, the
    translation twice: down, then right. A number a stands for the range of +-a about
    what changes nothing. u = 0 is the middle of every range.

    `Affine(shape, rotation=45, translation=7, scale=0.3, map="uniform")` with
    `LatentNoise(pset, sigma=1.0)` is the augmentation by the paper's rotations,
    translations and scalings, here by parts of pixels too.

    Args:
        image_shape: (height, width, channels) of the images.
        rotation: Range of the angle in degrees, clockwise.
        translation: Range of the translation in pixels, of each axis.
        scale: Range of the factor by which what is seen becomes larger; 0.3 stands for
            (0.7, 1.3).
        shear: Range of the columns by which each row is moved to the right of the one
            above.
        map: How u becomes the parameters, "linear" or "uniform"; see
            `lps_tf.sets.parametric` for what a ball then covers. Beyond the range of
            the linear map, a scale does not fall below 0.1.
        radius: Radius of the ball; None for 1 of the linear map, whose ball of radius 1
            is the ellipsoid in the box of the ranges, and for that of the ball that
            holds 99% of N(0, I) of the uniform one.

    Raises:
        ValueError: If no range is given, or one is not positive or not ascending.
    """

    FIXED: ClassVar[tuple[str, ...]] = (
        "image_shape",
        "rotation",
        "translation",
        "scale",
        "shear",
        "map",
        "radius",
    )

    def __init__(
        self,
        image_shape: ImageShape,
        *,
        rotation: Range | None = None,
        translation: Range | None = None,
        scale: Range | None = None,
        shear: Range | None = None,
        map: Map = "linear",
        radius: float | None = None,
    ):
        known_size(image_shape)
        self.rotation = checked_range("rotation", rotation)
        self.translation = checked_range("translation", translation)
        self.scale = checked_range("scale", scale, identity=1.0, above=0.0)
        self.shear = checked_range("shear", shear)
        self.map: Map = checked_map(map)
        ranges = {
            "rotation": self.rotation,
            "down": self.translation,
            "right": self.translation,
            "scale": self.scale,
            "shear": self.shear,
        }
        self._ranges = {name: ends for name, ends in ranges.items() if ends is not None}
        if not self._ranges:
            raise ValueError(
                "Give at least one of `rotation`, `translation`, `scale` and `shear`. "
                "Received: None for all of them"
            )
        dim = len(self._ranges)
        if radius is None:
            radius = 1.0 if map == "linear" else typical_radius(dim)
        super().__init__(image_shape, dim, radius)

    def parameters(self, u: tf.Tensor) -> dict[str, tf.Tensor]:
        """Of rotation, down, right, scale and shear those that vary, each (batch,)."""
        columns = zip(self._ranges.items(), tf.unstack(u, axis=1), strict=True)
        found = {name: in_range(u, ends, self.map) for (name, ends), u in columns}
        if "scale" in found:
            found["scale"] = tf.maximum(found["scale"], _LEAST_SCALE)
        return found

    def apply(self, x: tf.Tensor, parameters: dict[str, tf.Tensor]) -> tf.Tensor:
        """Images moved by parameters as `parameters` gives them."""
        maps = dict(parameters)
        if "rotation" in maps:
            maps["angle"] = maps.pop("rotation") * (math.pi / 180)
        height, width = x.shape[1:3]
        matrices = resampling.affine_matrices(height, width, **maps)
        table = resampling.neighbour_table(x)
        return resampling.affine_sample(table, matrices, height, width)

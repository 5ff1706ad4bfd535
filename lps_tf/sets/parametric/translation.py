"""Translation of images."""

from typing import ClassVar, Literal

import keras
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf.sets.parametric.base import ImageShape, size_of
from lps_tf.sets.parametric.resolvable import ResolvableSet

Border = Literal["edge", "wrap"]


@keras.saving.register_keras_serializable("lps_tf")
class Translation(ResolvableSet):
    """Images moved by distance * u pixels, u = (down, right): the ball is a disk.

    Sampling is bilinear. It resolves by whole pixels alone: parts of pixels smooth the
    image a little each time.

    Args:
        image_shape: (height, width, channels) of the images; height and width may be
            None.
        distance: The farthest that the ball of radius 1 moves an image, in pixels.
        border: What comes in at the border: "edge", its own pixels over and over, which
            suits images on a background; or "wrap", what leaves on the other side.
        radius: Radius of the ball.

    Raises:
        ValueError: If a number is not positive, or the border is another one.
    """

    FIXED: ClassVar[tuple[str, ...]] = ("image_shape", "distance", "border", "radius")

    def __init__(
        self,
        image_shape: ImageShape,
        distance: float,
        border: Border = "edge",
        radius: float = 1.0,
    ):
        self.distance = checks.positive("distance", distance)
        if border not in ("edge", "wrap"):
            raise ValueError(
                f'`border` must be "edge" or "wrap". Received: border={border!r}'
            )
        self.border: Border = border
        super().__init__(image_shape, 2, radius)

    def parameters(self, u: tf.Tensor) -> dict[str, tf.Tensor]:
        """Pixels down and right, each (batch,)."""
        down, right = tf.unstack(self.distance * u, axis=1)
        return {"down": down, "right": right}

    def apply(self, x: tf.Tensor, parameters: dict[str, tf.Tensor]) -> tf.Tensor:
        """Images moved by parameters as `parameters` gives them."""
        x = self._moved(x, parameters["down"])
        x = self._moved(tf.transpose(x, (0, 2, 1, 3)), parameters["right"])
        return tf.transpose(x, (0, 2, 1, 3))

    def _moved(self, x: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
        """Images (batch, size, ...) moved along their first axis, by (batch,)."""
        size = size_of(x, 1)
        whole = tf.floor(pixels)
        part = (pixels - whole)[:, None, None, None]
        # Each row is between the one at `first` and the one in front of it.
        first = tf.range(size) - tf.cast(whole, tf.int32)[:, None]  # (batch, size)

        def rows(index: tf.Tensor) -> tf.Tensor:
            if self.border == "wrap":
                index = tf.math.floormod(index, size)
            return tf.gather(x, tf.clip_by_value(index, 0, size - 1), batch_dims=1)

        near = rows(first)
        return near + part * (rows(first - 1) - near)

"""One set after another."""

import hashlib
from typing import Any

import keras
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf._internal.fixed import Fixed
from lps_tf.sets.protocol import Conditioned, LatentSet, PerturbsByDecoding


@keras.saving.register_keras_serializable("lps_tf")
class Compose(Fixed, PerturbsByDecoding):
    """second.perturb(first.perturb(x, u1), u2), of any two sets; u = [u1, u2].

    The ball is that of all of u: what one set takes of it, the other has not. The
    second set conditions on what the first makes of x, so that it does so for each
    latent anew; if one of the two is learned, let it be the first where that is true to
    what happens.

    Args:
        first: Set that perturbs the image, parametric, learned or of your own.
        second: Set that perturbs the result; of images of the same shape.
        radius: Radius of the ball; None for the smallest one that holds both balls
            together, sqrt(r1^2 + r2^2), or none if one of the sets has none.

    Raises:
        ValueError: If the sets are of images of different shapes, or the radius is not
            positive.
    """

    FIXED = ("first", "second", "radius")

    def __init__(
        self, first: LatentSet, second: LatentSet, radius: float | None = None
    ):
        shapes = tuple(first.image_shape), tuple(second.image_shape)
        if not tf.TensorShape(shapes[0]).is_compatible_with(shapes[1]):
            raise ValueError(
                "`first` and `second` must be sets of images of the same shape. "
                f"Received: {shapes[0]} and {shapes[1]}"
            )
        self.first, self.second = first, second
        if radius is None and first.radius is not None and second.radius is not None:
            radius = (first.radius**2 + second.radius**2) ** 0.5
        self.radius = None if radius is None else checks.positive("radius", radius)

    @property
    def latent_dim(self) -> int:
        """Number of latent dimensions, those of both sets."""
        return self.first.latent_dim + self.second.latent_dim

    @property
    def image_shape(self) -> tuple[int | None, int | None, int]:
        """(height, width, channels); None, None where images of any size will do."""
        first, second = self.first.image_shape, self.second.image_shape
        height, width, channels = (
            b if a is None else a for a, b in zip(first, second, strict=True)
        )
        assert channels is not None
        return height, width, channels

    def condition(self, x: tf.Tensor) -> Conditioned:
        """What the first set conditions on; the second has to wait for its images."""
        first = self.first.condition(x)
        zeros = tf.zeros((tf.shape(first.mean)[0], self.latent_dim))
        return Conditioned(zeros, tf.ones_like(zeros), first)

    def decode(self, conditioned: Conditioned, u: tf.Tensor) -> tf.Tensor:
        """Images for latents u = [u1, u2], (batch, latent_dim)."""
        between = self.first.latent_dim
        image = self.first.decode(conditioned.features, u[:, :between])
        return self.second.decode(self.second.condition(image), u[:, between:])

    def digest(self) -> str:
        """A hash of what `perturb` depends on, which the radius is not."""
        both = f"{self.first.digest()} {self.second.digest()}"
        return hashlib.blake2b(both.encode(), digest_size=16).hexdigest()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; weights of a learned set are not among them."""
        sets = {"first": self.first, "second": self.second}
        config = {k: keras.saving.serialize_keras_object(v) for k, v in sets.items()}
        return {**config, "radius": self.radius}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Compose":
        """The inverse of `get_config`."""
        config = dict(config)
        for name in ("first", "second"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)

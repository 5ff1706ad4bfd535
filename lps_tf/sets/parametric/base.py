"""What sets of known formula share: checks, ranges, configuration, digest."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.stats
import tensorflow as tf

from lps_tf._internal import checks, files
from lps_tf._internal.describing import described
from lps_tf._internal.fixed import Fixed
from lps_tf.sets.protocol import Conditioned, PerturbsByDecoding

#: (height, width, channels) of the images of a set, None where any number will do.
ImageShape = Sequence[int | None]

#: A number a for a range of +-a about what changes nothing, or (low, high).
Range = float | tuple[float, float]

#: How a standardised latent becomes a parameter; see `lps_tf.sets.parametric`.
Map = Literal["linear", "uniform"]


class ParametricSet(Fixed, PerturbsByDecoding, ABC):
    """A set whose `perturb` is a formula, differentiable in u, without any weights.

    Subclasses give `parameters` and `apply`. `FIXED` names the arguments of the
    constructor, each of them an attribute: they are the configuration.

    Args:
        image_shape: (height, width, channels) of the images; None where any number
            will do.
        latent_dim: Number of latent dimensions.
        radius: Radius of the ball.

    Raises:
        ValueError: If a number is out of its range.
    """

    FIXED: ClassVar[tuple[str, ...]] = ("image_shape", "radius")

    def __init__(self, image_shape: ImageShape, latent_dim: int, radius: float):
        self.image_shape = _checked_shape(image_shape)
        self.radius: float = checks.positive("radius", radius)
        self._latent_dim = latent_dim

    @property
    def latent_dim(self) -> int:
        """Number of latent dimensions."""
        return self._latent_dim

    @abstractmethod
    def parameters(self, u: tf.Tensor) -> dict[str, tf.Tensor]:
        """What latents (batch, latent_dim) stand for, each (batch, ...) by name."""

    @abstractmethod
    def apply(self, x: tf.Tensor, parameters: dict[str, tf.Tensor]) -> tf.Tensor:
        """Images, not yet clipped, that the parameters make of x."""

    def condition(self, x: tf.Tensor) -> Conditioned:
        """The images, checked.

        Raises:
            ValueError: If they are no images in [0, 1] of the set's shape.
        """
        x = checks.of_shape("x", checks.images("x", x), self.image_shape)
        zeros = tf.zeros((tf.shape(x)[0], self.latent_dim))
        return Conditioned(zeros, tf.ones_like(zeros), x)

    def decode(self, conditioned: Conditioned, u: tf.Tensor) -> tf.Tensor:
        """Images for latents u (batch, latent_dim), clipped to [0, 1]."""
        image = self.apply(conditioned.features, self.parameters(u))
        return tf.clip_by_value(image, 0.0, 1.0)

    def digest(self) -> str:
        """A hash of what `perturb` depends on, which the radius is not."""
        config = {k: v for k, v in self.get_config().items() if k != "radius"}
        text = json.dumps([type(self).__name__, config], sort_keys=True)
        return files.digest(np.frombuffer(text.encode(), np.uint8))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {name: self.__dict__[name] for name in self.FIXED}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ParametricSet":
        """The inverse of `get_config`."""
        return cls(**config)

    def __repr__(self) -> str:
        return described(self, **self.get_config())


def _checked_shape(image_shape: ImageShape) -> tuple[int | None, int | None, int]:
    if not isinstance(image_shape, Sequence) or len(image_shape) != 3:
        raise ValueError(
            "`image_shape` must be (height, width, channels), None where any number "
            f"will do. Received: image_shape={image_shape}"
        )
    height, width, channels = (
        None if n is None else checks.count("image_shape", n) for n in image_shape
    )
    if channels is None:
        raise ValueError(
            "The channels of `image_shape` must be a number. "
            f"Received: image_shape={image_shape}"
        )
    return height, width, channels


def known_size(image_shape: ImageShape) -> None:
    """Raises ValueError if a size is None, for sets that have to know it."""
    if None in tuple(image_shape):
        raise ValueError(
            "This set must know the size of its images: give every number of "
            f"`image_shape`. Received: image_shape={image_shape}"
        )


def checked_range(
    name: str, value: Range | None, identity: float = 0.0, above: float = -math.inf
) -> tuple[float, float] | None:
    """(low, high) of a parameter; None if it has no range.

    Args:
        name: Name of the argument, for the error.
        value: A number for a range about the identity, or (low, high).
        identity: Value of the parameter that changes nothing.
        above: What the whole range must be above.

    Raises:
        ValueError: If it is no such range.
    """
    if value is None:
        return None
    if isinstance(value, tuple | list):
        ends = tuple(value)
    else:
        half = checks.positive(name, value)
        ends = (identity - half, identity + half)
    fits = len(ends) == 2 and all(isinstance(end, int | float) for end in ends)
    if not fits or not above < ends[0] < ends[1] < math.inf:
        least = "" if above == -math.inf else f", low above {above:g}"
        raise ValueError(
            f"`{name}` must be a positive number, or (low, high) with low < "
            f"high{least}. Received: {name}={value}"
        )
    return float(ends[0]), float(ends[1])


def checked_factor(name: str, value: float) -> float:
    """Returns a factor, or raises ValueError unless it is above 1."""
    factor = checks.positive(name, value)
    if factor <= 1:
        raise ValueError(
            f"`{name}` must be a factor above 1: the range is from 1 / {name} to "
            f"{name}. Received: {name}={value}"
        )
    return factor


def checked_map(value: Map) -> Map:
    """Returns the name of a map, or raises ValueError."""
    if value not in ("linear", "uniform"):
        raise ValueError(
            f'`map` must be "linear" or "uniform". Received: map={value!r}'
        )
    return value


def in_range(u: tf.Tensor, limits: tuple[float, float], map: Map) -> tf.Tensor:
    """The parameter of a range that standardised latents of any shape stand for."""
    low, high = limits
    if map == "uniform":
        return low + (high - low) * normal_cdf(u)
    return (low + high) / 2 + (high - low) / 2 * u


def normal_cdf(u: tf.Tensor) -> tf.Tensor:
    """The distribution function of N(0, 1)."""
    return 0.5 * (1.0 + tf.math.erf(u * math.sqrt(0.5)))


def typical_radius(latent_dim: int) -> float:
    """The radius of the ball that holds 99% of N(0, I)."""
    return float(np.sqrt(scipy.stats.chi2.ppf(0.99, latent_dim)))


def size_of(x: tf.Tensor, axis: int) -> int | tf.Tensor:
    """The size of an axis, as a number if it is known when a graph is traced."""
    return x.shape[axis] or tf.shape(x)[axis]

"""What everything after learning needs of a perturbation set."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import tensorflow as tf

from lps_tf._internal import checks, xla


class Conditioned(NamedTuple):
    """What depends on x alone: enough to decode any latent of its ball."""

    mean: tf.Tensor  # (batch, latent_dim), of the prior
    std: tf.Tensor  # (batch, latent_dim), of the prior
    features: Any  # of the generator: a tensor or a structure of tensors


@runtime_checkable
class LatentSet(Protocol):
    """S(x) = {perturb(x, u) : ||u|| <= radius}, u a standardised latent.

    `PerturbationSet` is one; attacks, noise, smoothing and certificates take any object
    with these members.
    """

    @property
    def latent_dim(self) -> int:
        """Number of latent dimensions."""
        ...

    @property
    def image_shape(self) -> tuple[int | None, int | None, int]:
        """(height, width, channels); None, None where images of any size will do."""
        ...

    @property
    def radius(self) -> float | None:
        """Radius of the latent ball; None if it has not been chosen."""
        ...

    def condition(self, x: tf.Tensor) -> Conditioned:
        """Everything that depends on the images alone."""
        ...

    def decode(self, conditioned: Conditioned, u: tf.Tensor) -> tf.Tensor:
        """Images for latents u (batch, latent_dim), as plain operations."""
        ...

    def perturb(self, x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """Images for images x and latents u: condition, then decode."""
        ...

    def digest(self) -> str:
        """A hash of what `perturb` depends on."""
        ...


def require_radius(perturbation_set: LatentSet, radius: float | None = None) -> float:
    """The given radius, checked, or else the set's own.

    Raises:
        ValueError: If neither is there, or the given one is not positive and finite.
    """
    if radius is not None:
        return checks.positive("radius", radius)
    if perturbation_set.radius is None:
        raise ValueError(
            "This perturbation set has no radius yet. Call "
            "`calibrate(validation_pairs)` or pass `radius`. Received: radius=None"
        )
    return perturbation_set.radius


def decode_compiled(
    perturbation_set: LatentSet, conditioned: Conditioned, u: tf.Tensor
) -> tf.Tensor:
    """`decode`, compiled by XLA: for hot callers that compile nothing around it.

    Under a distribution strategy, and of a set that XLA has no form of, it is plain.

    Args:
        perturbation_set: Set to decode with.
        conditioned: Images, as its `condition` gives them.
        u: Standardised latents, (batch, latent_dim).
    """
    if tf.distribute.has_strategy() or not set_compiles(perturbation_set, conditioned):
        return perturbation_set.decode(conditioned, u)
    decode = xla.graph_of(_decode, perturbation_set, jit_compile=True)
    return decode(perturbation_set, conditioned, u)


def _decode(
    perturbation_set: LatentSet, conditioned: Conditioned, u: tf.Tensor
) -> tf.Tensor:
    return perturbation_set.decode(conditioned, u)


def set_compiles(perturbation_set: LatentSet, conditioned: Conditioned) -> bool:
    """Whether XLA has a form of every operation of a set's `decode`; warns if not."""
    specs = _specs(conditioned)
    flat = tf.nest.flatten(specs)
    if not all(spec.shape.is_fully_defined() for spec in flat):
        return True  # sizes that are not known yet: XLA will say

    def decode(*tensors: tf.Tensor) -> tf.Tensor:
        return perturbation_set.decode(*tf.nest.pack_sequence_as(specs, tensors))

    return xla.can_compile(perturbation_set, decode, *flat)


def decoded_shape(
    perturbation_set: LatentSet, conditioned: Conditioned
) -> tuple[int | None, ...]:
    """(height, width, channels) of the images that latents are decoded to."""
    decode = tf.function(perturbation_set.decode, autograph=False)
    images = decode.get_concrete_function(*_specs(conditioned)).output_shapes
    return tuple(images[1:])


def _specs(conditioned: Conditioned) -> tuple:
    """Specifications of one image as `decode` takes it, and of its latents."""
    return tf.nest.map_structure(
        lambda t: tf.TensorSpec((1, *t.shape[1:]), t.dtype),
        (conditioned, conditioned.mean),  # the latents have the shape of the mean
    )

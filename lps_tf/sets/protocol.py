"""What everything after learning needs of a perturbation set."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import tensorflow as tf

from lps_tf._internal import checks, xla


class Conditioned(NamedTuple):
    """What depends on x alone: enough to decode any latent of its ball.

    The batch is the first axis of each of its tensors, because examples are taken out
    of a batch, repeated, and put together with those of others.
    """

    mean: tf.Tensor  # (batch, latent_dim), of the prior; zeros where there is none
    std: tf.Tensor  # (batch, latent_dim), of the prior; ones where there is none
    features: Any  # of the generator: a tensor or a structure of tensors


@runtime_checkable
class LatentSet(Protocol):
    """S(x) = {perturb(x, u) : ||u|| <= radius}, u a standardised latent.

    `PerturbationSet` is one that is learned, those of `lps_tf.sets.parametric` have a
    formula. Attacks, noise, training, evaluation, smoothing, certificates and `export`
    take any object with these members. It must be hashable, as every object is that
    does not define what it is equal to: compiled graphs are kept by it.

    Example:
        class Dimmed:  # in the ball by a factor between a half and three halves
            latent_dim, image_shape, radius = 1, (None, None, 1), 1.0

            def condition(self, x):
                zeros = tf.zeros((tf.shape(x)[0], self.latent_dim))
                return Conditioned(zeros, zeros + 1.0, tf.cast(x, tf.float32))

            def decode(self, conditioned, u):
                factor = 1.0 + 0.5 * u[:, :, None, None]  # (batch, 1, 1, 1)
                return tf.clip_by_value(factor * conditioned.features, 0.0, 1.0)

            def perturb(self, x, u):
                return self.decode(self.condition(x), u)

            def digest(self):
                return "dimmed by a half"
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
        """Float32 images in [0, 1] for latents u (batch, latent_dim).

        Plain operations of TensorFlow, whatever the norm of u: noise has no end.
        """
        ...

    def perturb(self, x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """Images for images x and latents u: condition, then decode."""
        ...

    def digest(self) -> str:
        """A hash of what `perturb` depends on."""
        ...


@runtime_checkable
class EncodingSet(LatentSet, Protocol):
    """A set that knows the latent of a perturbed image, as a learned one does."""

    def encode(self, x: tf.Tensor, x_perturbed: tf.Tensor) -> tf.Tensor:
        """Standardised latents, (batch, latent_dim)."""
        ...


@runtime_checkable
class Resolvable(LatentSet, Protocol):
    """A set in which perturbing twice is perturbing once, by the sum of the latents.

    So it is with translations, shifts of brightness and changes of a pixel ball, as far
    as nothing is lost on the way. A certificate can start from an image that is
    perturbed already: see `SmoothedClassifier`.
    """

    def resolves(self, x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """Whether, for all v, perturb(perturb(x, u), v) is perturb(x, u + v), (batch,).

        It may say no where it is so, but not yes where it is not.
        """
        ...


def require_hashable(perturbation_set: LatentSet) -> LatentSet:
    """Returns a set, or raises ValueError if no compiled graph can be kept by it."""
    try:
        hash(perturbation_set)
    except TypeError:
        raise ValueError(
            "`perturbation_set` must be hashable, because compiled graphs are kept by "
            "it. Of a dataclass, write `@dataclass(eq=False)`. "
            f"Received: perturbation_set={perturbation_set}"
        ) from None
    return perturbation_set


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


class PerturbsByDecoding:
    """`perturb` of a set that has `condition` and `decode`; a further base class."""

    def perturb(self: LatentSet, x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        """The perturbation of x that the standardised latent u names.

        Args:
            x: Images, (batch, height, width, channels).
            u: Standardised latents, (batch, latent_dim).

        Returns:
            Images in [0, 1], of the shape of x.

        Raises:
            ValueError: If either has another shape, or images are out of [0, 1].
        """
        conditioned = self.condition(x)
        u = tf.convert_to_tensor(u, tf.float32)
        if u.shape.rank != 2 or u.shape[1] != self.latent_dim:
            raise ValueError(
                f"`u` must have shape (batch, {self.latent_dim}). "
                f"Received: shape {tuple(u.shape)}"
            )
        images = conditioned.mean.shape[0]
        if not u.shape[:1].is_compatible_with([images]):
            raise ValueError(
                "`x` and `u` must have the same batch; for several members of one "
                "image repeat it, as in `tf.repeat(x, len(u), 0)`. "
                f"Received: {images} images and {u.shape[0]} latents"
            )
        return decode_compiled(self, conditioned, u)


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

"""What everything after learning needs of a perturbation set."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import tensorflow as tf


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

"""Random members of a perturbation set, for training."""

import keras
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf.sets import latent
from lps_tf.sets.perturbation_set import PerturbationSet
from lps_tf.sets.protocol import Conditioned


class LatentAugmentation:
    """A random member of the set: u from N(0, I) truncated to the ball.

    Args:
        perturbation_set: the set to sample; calibrated, unless `radius` is given.
        radius: of the ball, default that of the set; infinity is the plain prior.
        seed: of the draws.

    Raises:
        ValueError: if there is no radius, or it is not positive.
    """

    adversarial = False

    def __init__(
        self,
        perturbation_set: PerturbationSet,
        *,
        radius: float | None = None,
        seed: int = 0,
    ):
        self.perturbation_set = perturbation_set
        self.radius = perturbation_set.require_radius(radius)
        self._seeds = latent.Keys(seed)

    def __call__(
        self,
        classifier: keras.layers.Layer,
        x: tf.Tensor,
        y: tf.Tensor,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """A random perturbation of each image, of the shape of x."""
        conditioned = self.perturbation_set.condition(x)
        shape = (tf.shape(conditioned.mean)[0], conditioned.mean.shape[1])
        seed = self._seeds(seed)
        u = latent.sample_truncated_normal(shape, self.radius, seed)
        return self.perturbation_set.decode(conditioned, u)


class LatentNoise:
    """Gaussian noise in the latent, the training for randomised smoothing.

    Args:
        perturbation_set: the set whose latent is perturbed; needs no radius.
        sigma: standard deviation of the noise, in standardised latent units.
        views: draws of each image, for objectives that compare them.
        seed: of the noise.

    Raises:
        ValueError: if sigma or views is not positive.
    """

    adversarial = False

    def __init__(
        self,
        perturbation_set: PerturbationSet,
        sigma: float,
        *,
        views: int = 1,
        seed: int = 0,
    ):
        self.perturbation_set = perturbation_set
        self.sigma = checks.positive("sigma", sigma)
        self.views = checks.count("views", views)
        self._seeds = latent.Keys(seed)

    def __call__(
        self,
        classifier: keras.layers.Layer,
        x: tf.Tensor,
        y: tf.Tensor,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """perturb(x, sigma * n), n from N(0, I).

        Returns:
            Images of the shape of x; with several views, (views, *shape of x).
        """
        conditioned = self.perturbation_set.condition(x)
        seed = self._seeds(seed)
        noise = noises(conditioned, self.views, self.sigma, seed)
        images = [self.perturbation_set.decode(conditioned, n) for n in noise]
        return images[0] if self.views == 1 else tf.stack(images)


def noises(
    conditioned: Conditioned, views: int, sigma: float, seed: tf.Tensor
) -> list[tf.Tensor]:
    """Draws of sigma * N(0, I) for a batch, `views` times (batch, latent_dim)."""
    shape = tf.shape(conditioned.mean)
    return [
        sigma * latent.standard_normal(shape, latent.fold_in(seed, view))
        for view in range(views)
    ]

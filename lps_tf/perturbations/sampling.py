"""Random members of a perturbation set, for training."""

from typing import ClassVar

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf._internal.fixed import Adjustable
from lps_tf._internal.outputs import Classifier
from lps_tf.perturbations.of_set import AdjustableSigma, OfSet
from lps_tf.sets import latent
from lps_tf.sets.protocol import (
    Conditioned,
    LatentSet,
    decode_compiled,
    require_radius,
)


class LatentAugmentation(OfSet):
    """A random member of the set: u from N(0, I) truncated to the ball, or given.

    Training pulls the latents of all pairs together towards N(0, I), and rarely all the
    way: what is hard to draw, such as fog, stays further out than the normal reaches.
    The latents of pairs themselves are distributed as what happens (the aggregated
    posterior of Hoffman and Johnson 2016), and may be those of other images.

    Example:
        latents, _ = pset.encode_pairs(data.train_pairs)
        robust = lps.RobustClassifier(
            classifier, lps.LatentAugmentation(pset, latents=latents)
        )

    Args:
        perturbation_set: Set to sample from; calibrated, unless `radius` is given.
        radius: Radius of the ball, default that of the set; it may be set later too.
        latents: Latents (number, latent_dim) to draw from, each as often as any other,
            instead of the normal; those outside of the ball are pulled to its rim.
        num_samples: Number of members for each image, for objectives that compare them.
        seed: Seed of the samples.

    Raises:
        ValueError: If there is no radius, it is not positive and finite, there is no
            sample, or `latents` are not finite latents of the set. The prior without an
            end is `LatentNoise` with a sigma of 1.
    """

    FIXED: ClassVar[tuple[str, ...]] = (*OfSet.FIXED, "num_samples", "latents")

    #: Radius of the ball.
    radius = Adjustable()

    def __init__(
        self,
        perturbation_set: LatentSet,
        *,
        radius: float | None = None,
        latents: np.ndarray | None = None,
        num_samples: int = 1,
        seed: int = 0,
    ):
        super().__init__(perturbation_set, seed)
        self.radius = require_radius(perturbation_set, radius)
        self.num_samples = checks.count("num_samples", num_samples)
        if latents is not None:
            latents = checks.latents("latents", latents, perturbation_set.latent_dim)
            # A variable: as a constant, each graph would hold a copy.
            with tf.init_scope():
                self._stock = tf.Variable(latents, trainable=False, name="latents")
        self.latents = latents

    def __call__(
        self,
        classifier: Classifier,
        x: tf.Tensor,
        y: tf.Tensor,
        key: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Random perturbations of each image.

        Returns:
            Images of the shape of x; of several samples, (num_samples, *shape of x).
        """
        conditioned = self.perturbation_set.condition(x)
        key = self._keys(key)
        images = []
        for number in range(self.num_samples):
            own = key if self.num_samples == 1 else latent.fold_in(key, number)
            u = self._draw(conditioned.mean, own)
            images.append(decode_compiled(self.perturbation_set, conditioned, u))
        return images[0] if self.num_samples == 1 else tf.stack(images)

    def _draw(self, mean: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Latents of the shape of `mean`, (batch, latent_dim)."""
        shape = (tf.shape(mean)[0], mean.shape[1])
        radius = tf.convert_to_tensor(Adjustable.tensor(self, "radius"))
        if self.latents is None:
            return latent.sample_truncated_normal(shape, radius, key)
        row = latent.whole_numbers(shape[:1], len(self.latents), key)  # (batch,)
        return latent.project(tf.gather(self._stock, row), radius)


class LatentNoise(OfSet):
    """Gaussian noise in the latent, the training for randomised smoothing.

    Args:
        perturbation_set: Set whose latent is perturbed; it needs no radius.
        sigma: Standard deviation of the noise, in standardised latent units, or one
            for each latent dimension, (latent_dim,), such as those of
            `certification.sigma_of_spread`; it may be set later too.
        num_samples: Number of noises of each image, for objectives that compare them.
        seed: Seed of the noise.

    Raises:
        ValueError: If sigma is not positive and finite, nor one such number for each
            dimension, or there is no sample.
    """

    FIXED: ClassVar[tuple[str, ...]] = (*OfSet.FIXED, "num_samples")

    #: Standard deviation of the noise, or of each dimension.
    sigma = AdjustableSigma()

    def __init__(
        self,
        perturbation_set: LatentSet,
        sigma: float | np.ndarray,
        *,
        num_samples: int = 1,
        seed: int = 0,
    ):
        super().__init__(perturbation_set, seed)
        self.sigma = sigma  # type: ignore[assignment]
        self.num_samples = checks.count("num_samples", num_samples)

    def __call__(
        self,
        classifier: Classifier,
        x: tf.Tensor,
        y: tf.Tensor,
        key: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """perturb(x, sigma * n), n from N(0, I).

        Returns:
            Images of the shape of x; of several samples, (num_samples, *shape of x).
        """
        conditioned = self.perturbation_set.condition(x)
        sigma = tf.convert_to_tensor(Adjustable.tensor(self, "sigma"))
        noise = noises(conditioned, self.num_samples, sigma, self._keys(key))
        images = [decode_compiled(self.perturbation_set, conditioned, n) for n in noise]
        return images[0] if self.num_samples == 1 else tf.stack(images)


def noises(
    conditioned: Conditioned, num_samples: int, sigma: tf.Tensor, key: tf.Tensor
) -> list[tf.Tensor]:
    """Samples of sigma * N(0, I) for a batch, each (batch, latent_dim).

    Of a sigma for each dimension, (latent_dim,), too.
    """
    shape = tf.shape(conditioned.mean)
    return [
        sigma * latent.standard_normal(shape, latent.fold_in(key, number))
        for number in range(num_samples)
    ]

"""SmoothAdv: an attack on a smoothed classifier, to train its base classifier on."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf.perturbations.losses import all_wrong, cross_entropy, over_image
from lps_tf.perturbations.pgd import LatentPGD
from lps_tf.perturbations.sampling import noises
from lps_tf.sets import latent
from lps_tf.sets.perturbation_set import PerturbationSet
from lps_tf.sets.protocol import Conditioned


def _smoothed(
    pset: PerturbationSet,
    classifier: Any,
    conditioned: Conditioned,
    y: tf.Tensor,
    numbers: dict,
    u: tf.Tensor,
) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
    # Of logarithms, because probabilities of float32 reach 0.
    logs = [
        tf.nn.log_softmax(
            tf.cast(
                classifier(pset.decode(conditioned, u + n), training=False), tf.float32
            )
        )
        for n in tf.unstack(numbers["noise"])
    ]
    mean = tf.reduce_logsumexp(tf.stack(logs), 0) - np.log(len(logs))
    loss = over_image(cross_entropy(mean, y))
    return loss, (loss, all_wrong(mean, y))


class SmoothedPGD(LatentPGD):
    """Projected gradient ascent against a smoothed classifier (Salman et al. 2019).

    It raises -log of the mean, over a few noises that stay fixed during the search,
    of the softmax at the label. Called, it gives the images at the noises around the
    point that it found; train on all of them.

    Args:
        perturbation_set: the set to search; calibrated, unless `radius` is given.
        sigma: standard deviation of the noise, in standardised latent units.
        radius: of the ball, default that of the set.
        steps: gradient steps.
        relative_step: length of a step as a fraction of the radius.
        views: noises of each image.
        seed: of starts and noises.

    Raises:
        ValueError: if there is no radius, or a number is not positive.
    """

    adversarial = False
    objective = staticmethod(_smoothed)

    def __init__(
        self,
        perturbation_set: PerturbationSet,
        sigma: float,
        *,
        radius: float | None = None,
        steps: int = 7,
        relative_step: float = 0.2,
        views: int = 2,
        seed: int = 0,
    ):
        super().__init__(
            perturbation_set,
            radius=radius,
            steps=steps,
            relative_step=relative_step,
            seed=seed,
        )
        self.sigma = checks.positive("sigma", sigma)
        self.views = checks.count("views", views)

    def __call__(
        self,
        classifier: keras.layers.Layer,
        x: tf.Tensor,
        y: tf.Tensor,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Noisy images around the worst point, (views, *shape of x)."""
        seed = self._seeds(seed)
        conditioned = self.perturbation_set.condition(x)
        noise = noises(conditioned, self.views, self.sigma, latent.fold_in(seed, 1))
        u = self.find(classifier, conditioned, y, seed, {"noise": tf.stack(noise)})
        return tf.stack(
            [self.perturbation_set.decode(conditioned, u + n) for n in noise]
        )

    def stream(self, classifier: Any, batches: Any, radii: Any = None) -> Any:
        """Raises NotImplementedError; so does `run`."""
        raise NotImplementedError(
            "SmoothedPGD is to train with. What a smoothed classifier withstands, its "
            "certificates say: see `SmoothedClassifier.certify`."
        )

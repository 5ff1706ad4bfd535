"""SmoothAdv: an attack on a smoothed classifier, to train its base classifier on."""

from typing import Any, ClassVar, NoReturn

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks, outputs
from lps_tf._internal.fixed import Adjustable
from lps_tf._internal.outputs import Classifier
from lps_tf.perturbations.base import checked_targets
from lps_tf.perturbations.losses import all_wrong, cross_entropy, over_image
from lps_tf.perturbations.pgd import LatentPGD
from lps_tf.perturbations.sampling import noises
from lps_tf.sets import latent
from lps_tf.sets.protocol import LatentSet, decode_compiled
from lps_tf.sets.search import Problem


def _smoothed(
    problem: Problem, u: tf.Tensor
) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
    decode, y = problem.perturbation_set.decode, problem.y
    # Of logarithms, because probabilities of float32 reach 0.
    logs = [
        tf.nn.log_softmax(
            outputs.logits(problem.classifier, decode(problem.conditioned, u + n))
        )
        for n in tf.unstack(problem.parameters["noise"])
    ]
    mean = tf.reduce_logsumexp(tf.stack(logs), 0) - np.log(len(logs))
    loss = over_image(cross_entropy(mean, y))
    return loss, (loss, all_wrong(mean, y))


class SmoothedPGD(LatentPGD):
    """Projected gradient ascent against a smoothed classifier (Salman et al. 2019).

    It raises -log of the mean, over a few noises that stay fixed during the search,
    of the softmax at the label. Called, it gives the images at the noises around the
    point that it found; train on all of them.

    `radius=1.5 * sigma, steps=1, relative_step=1.0, num_samples=1` is one long step
    from a random member: the cheapest training against attacks of this package, and of
    those compared in docs/results the one that holds best.

    Args:
        perturbation_set: Set to search; calibrated, unless `radius` is given.
        sigma: Standard deviation of the noise, in standardised latent units; it may be
            set later too.
        radius: Radius of the ball, default that of the set; it may be set later too.
        steps: Number of gradient steps.
        relative_step: Length of a step as a fraction of the radius.
        num_samples: Number of noises of each image.
        seed: Seed of starts and noises.

    Raises:
        ValueError: If there is no radius, or a number is not positive.
    """

    FIXED: ClassVar[tuple[str, ...]] = (*LatentPGD.FIXED, "num_samples")

    adversarial = False
    objective = staticmethod(_smoothed)

    #: Standard deviation of the noise.
    sigma = Adjustable()

    def __init__(
        self,
        perturbation_set: LatentSet,
        sigma: float,
        *,
        radius: float | None = None,
        steps: int = 7,
        relative_step: float = 0.2,
        num_samples: int = 2,
        seed: int = 0,
    ):
        super().__init__(
            perturbation_set,
            radius=radius,
            steps=steps,
            relative_step=relative_step,
            seed=seed,
        )
        self.sigma = sigma
        self.num_samples = checks.count("num_samples", num_samples)

    def __call__(
        self,
        classifier: Classifier,
        x: tf.Tensor,
        y: tf.Tensor,
        key: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Noisy images around the worst point, (num_samples, *shape of x)."""
        key = self._keys(key)
        conditioned = self.perturbation_set.condition(x)
        sigma = tf.convert_to_tensor(Adjustable.tensor(self, "sigma"))
        noise = noises(conditioned, self.num_samples, sigma, latent.fold_in(key, 1))
        parameters = {"noise": tf.stack(noise)}
        u = self.find(classifier, conditioned, checked_targets(y), key, parameters)
        images = [
            decode_compiled(self.perturbation_set, conditioned, u + n) for n in noise
        ]
        return tf.stack(images)

    def stream(self, *arguments: Any, **keywords: Any) -> NoReturn:
        """Raises NotImplementedError; so does `run`."""
        raise NotImplementedError(
            "SmoothedPGD is to train with. What a smoothed classifier withstands, its "
            "certificates say: see `SmoothedClassifier.certify`."
        )

"""What to do to an image during training and evaluation.

A perturbation is called with a classifier (images to logits), a batch x and its
labels y, and returns the perturbed batch; `RobustClassifier` takes any callable of
that form. Those here move in the latent ball of a perturbation set, which stays
frozen: only gradients with respect to the latent are computed.

A class attribute `adversarial` says how to train on the result: True, on the worse
of the clean and the perturbed loss; False, on the perturbed loss alone.
"""

import keras
import tensorflow as tf

from lps_tf import checks, latent
from lps_tf.perturbation_set import Conditioned, PerturbationSet


class LatentPGD:
    """Projected gradient ascent on the loss in the latent ball (paper, section 5).

    It starts in a uniform direction at a uniform fraction of the radius; each step
    follows the example's own normalised gradient and is projected on the ball.
    Examples that are already misclassified stop moving; in segmentation, those with
    every pixel wrong.

    The paper trains with 7 steps of radius / 5 and evaluates with 50 of radius / 20.

    Args:
        perturbation_set: the set to search; calibrated, unless `radius` is given.
        radius: of the ball, default that of the set.
        steps: gradient steps.
        relative_step: length of a step as a fraction of the radius.
        seed: of the starts.

    Raises:
        ValueError: if there is no radius, or a number is not positive.
    """

    adversarial = True

    def __init__(
        self,
        perturbation_set: PerturbationSet,
        *,
        radius: float | None = None,
        steps: int = 7,
        relative_step: float = 0.2,
        seed: int = 0,
    ):
        self.perturbation_set = perturbation_set
        self.radius = perturbation_set.require_radius(radius)
        if self.radius == float("inf"):
            raise ValueError("`radius` must be finite. Received: radius=inf")
        self.steps = checks.count("steps", steps)
        self.relative_step = checks.positive("relative_step", relative_step)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def __call__(
        self, classifier: keras.layers.Layer, x: tf.Tensor, y: tf.Tensor
    ) -> tf.Tensor:
        """The worst perturbation found, for each image.

        Args:
            classifier: maps images to logits (batch, classes) or, for a segmenter,
                (batch, height, width, classes).
            x: images, (batch, height, width, channels).
            y: integer labels, (batch,) or (batch, height, width).

        Returns:
            Perturbed images of the shape of x.
        """
        conditioned = self.perturbation_set.condition(x)
        u = self.find(classifier, conditioned, y)
        return self.perturbation_set.decode(conditioned, u)

    def find(
        self, classifier: keras.layers.Layer, conditioned: Conditioned, y: tf.Tensor
    ) -> tf.Tensor:
        """The latents of the worst perturbations found, (batch, latent_dim)."""
        start = latent.sample_uniform_radius(
            (tf.shape(conditioned.mean)[0], conditioned.mean.shape[1]),
            self.radius,
            latent.next_seed(self.seed_generator),
        )
        radius = tf.constant(self.radius)
        u = _ascend(
            self.perturbation_set,
            classifier,
            conditioned,
            y,
            start,
            radius * self.relative_step,
            radius,
            tf.constant(self.steps),
        )
        return tf.stop_gradient(u)


# Both functions are traced once for a set and a classifier and serve every attack on
# them, whatever its radius and number of steps. One step at a time compiles fastest;
# XLA would run the loop itself slower. Distribution strategies do without XLA.


@tf.function(autograph=False, reduce_retracing=True)
def _ascend(
    perturbation_set: PerturbationSet,
    classifier: keras.layers.Layer,
    conditioned: Conditioned,
    y: tf.Tensor,
    u: tf.Tensor,
    step: tf.Tensor,
    radius: tf.Tensor,
    steps: tf.Tensor,
) -> tf.Tensor:
    fixed = (perturbation_set, classifier, conditioned, y, step, radius)
    advance = _step if tf.distribute.has_strategy() else _compiled_step
    return tf.while_loop(
        lambda i, _: i < steps, lambda i, u: (i + 1, advance(*fixed, u)), (0, u)
    )[1]


def _step(
    perturbation_set: PerturbationSet,
    classifier: keras.layers.Layer,
    conditioned: Conditioned,
    y: tf.Tensor,
    step: tf.Tensor,
    radius: tf.Tensor,
    u: tf.Tensor,
) -> tf.Tensor:
    def loss(u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images = perturbation_set.decode(conditioned, u)
        logits = tf.cast(classifier(images, training=False), tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
        right = tf.argmax(logits, -1) == tf.cast(y, tf.int64)
        inner = list(range(1, losses.shape.rank))
        return tf.reduce_sum(losses, inner), tf.reduce_any(right, inner)

    with perturbation_set.uncompiled():
        return latent.ascent_step(loss, u, step, radius)[0]


_compiled_step = tf.function(
    _step, jit_compile=True, autograph=False, reduce_retracing=True
)


class LatentAugmentation:
    """A random member of the set: u from N(0, I) truncated to the ball.

    Args:
        perturbation_set: the set to sample; calibrated, unless `radius` is given.
        radius: of the ball, default that of the set; infinity is the plain prior.
        seed: of the draws.
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
        self.seed_generator = keras.random.SeedGenerator(seed)

    def __call__(
        self, classifier: keras.layers.Layer, x: tf.Tensor, y: tf.Tensor
    ) -> tf.Tensor:
        """A random perturbation of each image, of the shape of x."""
        conditioned = self.perturbation_set.condition(x)
        shape = (tf.shape(conditioned.mean)[0], conditioned.mean.shape[1])
        seed = latent.next_seed(self.seed_generator)
        u = latent.sample_truncated_normal(shape, self.radius, seed)
        return self.perturbation_set.decode(conditioned, u)


class LatentNoise:
    """Gaussian noise in the latent, the training for randomised smoothing.

    Args:
        perturbation_set: the set whose latent is perturbed; needs no radius.
        sigma: standard deviation of the noise, in standardised latent units.
        seed: of the noise.
    """

    adversarial = False

    def __init__(
        self, perturbation_set: PerturbationSet, sigma: float, *, seed: int = 0
    ):
        self.perturbation_set = perturbation_set
        self.sigma = checks.positive("sigma", sigma)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def __call__(
        self, classifier: keras.layers.Layer, x: tf.Tensor, y: tf.Tensor
    ) -> tf.Tensor:
        """perturb(x, sigma * n) with n from N(0, I), of the shape of x."""
        conditioned = self.perturbation_set.condition(x)
        seed = latent.next_seed(self.seed_generator)
        noise = latent.standard_normal(tf.shape(conditioned.mean), seed)
        return self.perturbation_set.decode(conditioned, self.sigma * noise)

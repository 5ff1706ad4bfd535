"""SmoothedClassifier: predictions that no perturbation within a radius changes."""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from lps_tf import checks, latent
from lps_tf.perturbation_set import Conditioned, PerturbationSet
from lps_tf.progress import progress

ABSTAIN = -1


class Certificate(NamedTuple):
    """What `SmoothedClassifier.certify` returns, one entry an image.

    Attributes:
        prediction: the class, int64, -1 where it abstains.
        radius: certified radius in the standardised latent, 0 where it abstains.
        p_lower: lower confidence bound on the predicted class's probability.
        samples: noise draws spent on the image.
        alpha: the probability, over the draws, that a certificate is wrong.
    """

    prediction: np.ndarray
    radius: np.ndarray
    p_lower: np.ndarray
    samples: np.ndarray
    alpha: float


def clopper_pearson_lower(hits: Any, n: Any, alpha: Any) -> tf.Tensor:
    """One-sided Clopper-Pearson lower confidence bound on a probability.

    The true probability is below the bound with probability at most alpha. Computed
    in float64: float32 is off by more than bounds near 1 can bear.

    Args:
        hits: successes, any shape, 0 <= hits <= n.
        n: draws, broadcast with hits.
        alpha: error probability, in (0, 1).

    Returns:
        The bounds, float64; 0 for no hits.
    """
    hits, n, alpha = _double(hits), _double(n), _double(alpha)
    some = tf.maximum(hits, 1.0)
    bound = tfp.math.betaincinv(some, n - some + 1.0, alpha)
    return tf.where(hits > 0, bound, tf.zeros_like(bound))


def _double(value: Any) -> tf.Tensor:
    # `tf.cast` alone would take a Python float through float32.
    if tf.is_tensor(value):
        return tf.cast(value, tf.float64)
    return tf.constant(value, tf.float64)


def binomial_test(top: Any, second: Any) -> tf.Tensor:
    """Two-sided p-value of top successes in top + second fair coin tosses, float64.

    Args:
        top: the larger count, any shape.
        second: the smaller count.
    """
    top, second = _double(top), _double(second)
    half = tf.constant(0.5, tf.float64)
    # P(at least `top` of them) is an incomplete beta function; none of none is 1.
    tail = tf.math.betainc(tf.maximum(top, 1.0), second + 1.0, half)
    tail = tf.where(top > 0, tail, tf.ones_like(tail))
    return tf.minimum(2.0 * tail, tf.ones_like(tail))


class SmoothedClassifier:
    """Randomised smoothing in the latent of a perturbation set (paper, section 5).

    The smoothed classifier answers with the class that the base classifier gives
    most often on g(x, sigma * n), n from N(0, I).

    Guarantee: with probability at least 1 - alpha over the draws, `certify` returns
    for an image either -1 or a class and a radius R such that the smoothed classifier
    answers with this class at every latent u of norm at most R: no perturbation
    g(x, u) in that part of the *learned* set, smoothed around its u, changes the
    answer. It says nothing of perturbations outside of the learned set, and holds
    for exact arithmetic: networks run in floating point.

    Args:
        classifier: Keras model from images to logits (batch, classes).
        perturbation_set: a trained set; its radius is not needed.
        sigma: standard deviation of the noise, in standardised latent units.
        batch_size: draws evaluated at once; bounds the memory, whatever n is.
        seed: the draws of image i depend on the seed and i alone.

    Raises:
        ValueError: if sigma or batch_size is not positive.
    """

    def __init__(
        self,
        classifier: keras.Model,
        perturbation_set: PerturbationSet,
        sigma: float,
        *,
        batch_size: int = 256,
        seed: int = 0,
    ):
        self.classifier = classifier
        self.perturbation_set = perturbation_set
        self.sigma = checks.positive("sigma", sigma)
        self.batch_size = checks.count("batch_size", batch_size)
        self.seed = seed
        self._predict_one = tf.function(self.predict_one, autograph=False)
        self._certify_one = tf.function(self.certify_one, autograph=False)

    def predict(
        self, images: Any, n: int = 1000, alpha: float = 1e-3, verbose: bool = True
    ) -> np.ndarray:
        """The smoothed classifier's answers.

        An answer differs from the smoothed classifier's with probability at most
        alpha: a two-sided binomial test of the top two counts.

        Args:
            images: (batch, height, width, channels) in [0, 1].
            n: noise draws an image.
            alpha: error probability.
            verbose: whether to show progress.

        Returns:
            Classes, int64 (batch,), -1 where it abstains.
        """
        images = checks.images("images", images)
        n = tf.constant(checks.count("n", n))
        alpha = tf.constant(checks.probability("alpha", alpha), tf.float64)
        answers = [
            self._predict_one(images[i : i + 1], n, alpha, key)
            for i, key in progress(self._keys(images), "predict", verbose)
        ]
        return np.array([answer.numpy() for answer in answers])

    def certify(
        self,
        images: Any,
        n0: int = 100,
        n: int = 10_000,
        alpha: float = 1e-3,
        verbose: bool = True,
    ) -> Certificate:
        """Predictions with the radius within which they are certain not to change.

        The class is chosen on n0 draws; its probability is bounded from below on n
        fresh ones by Clopper and Pearson. p <= 1/2 abstains, otherwise the radius is
        sigma * Phi^-1(p). See the class for the guarantee.

        Args:
            images: (batch, height, width, channels) in [0, 1].
            n0: draws that choose the class.
            n: draws that estimate its probability.
            alpha: probability that a certificate is wrong.
            verbose: whether to show progress.

        Returns:
            A `Certificate`.

        Raises:
            ValueError: for a number out of its range or images out of [0, 1].
        """
        images = checks.images("images", images)
        n0, n = checks.count("n0", n0), checks.count("n", n)
        alpha = checks.probability("alpha", alpha)
        numbers = tf.constant(n0), tf.constant(n), tf.constant(alpha, tf.float64)
        results = [
            self._certify_one(images[i : i + 1], *numbers, key)
            for i, key in progress(self._keys(images), "certify", verbose)
        ]
        prediction, radius, p_lower = (
            np.array([value.numpy() for value in column])
            for column in zip(*results, strict=True)
        )
        samples = np.full(len(prediction), n0 + n)
        return Certificate(prediction, radius, p_lower, samples, alpha)

    def _keys(self, images: tf.Tensor) -> list[tuple[int, tf.Tensor]]:
        return [(i, tf.constant([self.seed, i])) for i in range(len(images))]

    # Graph code, for one image (1, h, w, c); exported SavedModels run the same.

    def predict_one(
        self, image: tf.Tensor, n: tf.Tensor, alpha: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        """The answer for one image, an int64 scalar; see `predict`."""
        counts = self._counts(self.perturbation_set.condition(image), n, key)
        counts, classes = tf.math.top_k(counts, 2)
        sure = binomial_test(counts[0], counts[1]) <= alpha
        return tf.where(sure, tf.cast(classes[0], tf.int64), ABSTAIN)

    def certify_one(
        self,
        image: tf.Tensor,
        n0: tf.Tensor,
        n: tf.Tensor,
        alpha: tf.Tensor,
        key: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Prediction, radius and p_lower of one image; see `certify`."""
        conditioned = self.perturbation_set.condition(image)
        keys = latent.split(key, 2)  # selection and estimation must not share draws
        best = tf.argmax(self._counts(conditioned, n0, keys[0]))
        hits = self._counts(conditioned, n, keys[1])[best]
        p_lower = clopper_pearson_lower(hits, n, alpha)
        sure = p_lower > 0.5
        radius = self.sigma * tf.math.ndtri(tf.maximum(p_lower, 0.5))
        return tf.where(sure, best, ABSTAIN), radius, p_lower

    def _counts(
        self, conditioned: Conditioned, n: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        """How often each class is answered in n draws, int32 (classes,)."""
        size = self.batch_size
        many = tf.nest.map_structure(lambda t: tf.repeat(t, size, 0), conditioned)
        classes = self.classifier.output_shape[-1]

        def add(i: tf.Tensor, counts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            key_i = latent.fold_in(key, i)
            noise = latent.standard_normal((size, many.mean.shape[1]), key_i)
            images = self.perturbation_set.decode(many, self.sigma * noise)
            answers = tf.argmax(self.classifier(images, training=False), -1)
            # Batches have one size; what is beyond n is drawn but not counted.
            counted = tf.range(size) < n - i * size
            hits = tf.one_hot(answers, classes, dtype=tf.int32)
            hits *= tf.cast(counted, tf.int32)[:, None]
            return i + 1, counts + tf.reduce_sum(hits, 0)

        return tf.while_loop(
            lambda i, _: i * size < n, add, (0, tf.zeros((classes,), tf.int32))
        )[1]

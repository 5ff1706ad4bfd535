"""SmoothedClassifier: predictions that no perturbation within a radius changes."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf._internal.progress import progress
from lps_tf.certification import statistics
from lps_tf.certification.sampler import ESTIMATION, SELECTION, Draws, Job
from lps_tf.sets.perturbation_set import PerturbationSet

ABSTAIN = -1


class Certificate(NamedTuple):
    """What `SmoothedClassifier.certify` returns, one entry an image.

    For a segmenter, the first three are (images, height, width).

    Attributes:
        prediction: the class, int64, -1 where it abstains.
        radius: certified radius in the standardised latent, 0 where it abstains.
        p_lower: lower confidence bound on the predicted class's probability. Toward
            a target radius, the probability that belongs to it, 0 where it abstains.
        samples: noise draws spent on the image, (images,).
        alpha: the probability, over the draws, that a certificate is wrong.
    """

    prediction: np.ndarray
    radius: np.ndarray
    p_lower: np.ndarray
    samples: np.ndarray
    alpha: float


class SmoothedClassifier:
    """Randomised smoothing in the latent of a perturbation set (paper, section 5).

    The smoothed classifier answers with the class that the base classifier gives
    most often on g(x, sigma * n), n from N(0, I); a smoothed segmenter does so for
    every pixel.

    What is certified: with probability at least 1 - alpha over the draws, `certify`
    returns for an image either -1 or a class and a radius R such that the smoothed
    classifier answers with this class at every latent u of norm at most R: no
    perturbation g(x, u) in that part of the *learned* set, smoothed around its u,
    changes the answer. For a segmenter, this holds for all pixels of the image at
    once, unless the correction is "none": then it holds for each pixel by itself, and
    many of an image's ten thousands of certificates may be wrong.

    What is not: perturbations outside of the learned set, the base classifier's
    answers, whether the class is right, all images of a data set at once, and
    arithmetic: the bound is that of exact real numbers, networks and noise are
    float32.

    Images are conditioned once, batch_size / 20 at a time, and their draws share
    batches. At no time are there more than batch_size draws and twice as many
    conditioned images as were conditioned at a time.

    Args:
        classifier: Keras model from images to logits (batch, classes), or (batch,
            height, width, classes) for a segmenter. Draws with a NaN count for no
            class.
        perturbation_set: a trained set; its radius is not needed.
        sigma: standard deviation of the noise, in standardised latent units.
        batch_size: the most draws evaluated at once; bounds the memory, whatever n.
        correction: for the pixels of a segmenter: "holm", "bonferroni" or "none".
            "bonferroni" divides alpha by the number of pixels. "holm" holds just as
            well and certifies more where the question is yes or no, `predict` and
            a target radius; for radii it has no better bounds, and is the same.
        seed: the draws of an image depend on the seed and its index alone.

    Raises:
        ValueError: if sigma or batch_size is not positive or for an unknown correction.
    """

    def __init__(
        self,
        classifier: keras.Model,
        perturbation_set: PerturbationSet,
        sigma: float,
        *,
        batch_size: int = 256,
        correction: str = "holm",
        seed: int = 0,
    ):
        self.classifier = classifier
        self.perturbation_set = perturbation_set
        self.sigma = checks.positive("sigma", sigma)
        self.batch_size = checks.count("batch_size", batch_size)
        if correction not in statistics.CORRECTIONS:
            raise ValueError(
                f"`correction` must be one of {', '.join(statistics.CORRECTIONS)}. "
                f"Received: correction={correction!r}"
            )
        self.correction = correction
        self.seed = seed
        self.draws = Draws(classifier, perturbation_set, self.sigma, self.batch_size)
        self._decide = tf.function(statistics.Rule.decide, autograph=False)

    def predict(
        self,
        images: Any,
        n: int = 1000,
        alpha: float = 1e-3,
        *,
        index: Any = None,
        verbose: bool = True,
    ) -> np.ndarray:
        """The smoothed classifier's answers.

        An answer differs from the smoothed classifier's with probability at most
        alpha, any answer of a segmenter for an image likewise: a two-sided binomial
        test of the top two counts, corrected for the number of pixels.

        Args:
            images: (batch, height, width, channels) in [0, 1].
            n: noise draws an image.
            alpha: error probability.
            index: numbers of the images in their data set, default 0, 1, ...
            verbose: whether to show progress.

        Returns:
            Classes, int64 (batch,) or (batch, height, width), -1 where it abstains.

        Raises:
            ValueError: for a number out of its range or images out of [0, 1].
        """
        images = checks.images("images", images)
        n, alpha = checks.count("n", n), checks.probability("alpha", alpha)

        def enough(n: int, pixels: int) -> bool:
            level = statistics.share_of_alpha(alpha, pixels, self.correction)
            return bool(statistics.binomial_test(n, 0) <= level)

        def finish(job: Job) -> np.ndarray:
            return self.answer(tf.constant(job.counts), alpha).numpy()

        answers = self._run("predict", images, index, n, None, finish, verbose)
        _warn_unless(enough, n, answers[0])
        return np.stack(answers)

    def certify(
        self,
        images: Any,
        n0: int = 100,
        n: int = 10_000,
        alpha: float = 1e-3,
        *,
        target_radius: float | None = None,
        share: float | None = None,
        index: Any = None,
        verbose: bool = True,
    ) -> Certificate:
        """Predictions with the radius within which they are certain not to change.

        The class is chosen on n0 draws; its probability is bounded from below on
        fresh ones. p_lower <= 1/2 abstains, otherwise the radius is
        sigma * Phi^-1(p_lower). See the class for the guarantee. Three ways:

        * The paper's: n draws, and the bound of Clopper and Pearson.
        * `target_radius=r`, yes or no: is the class certain up to r? Draws stop as
          soon as it is, or most likely will not be, and at n. The radius is r or 0.
        * `share=s`: radii again, but draws stop as soon as n of them would, at the
          rate of hits so far, add less than this share of the radius (a segmenter:
          of the sum of its radii).

        The latter two rest on `bounds.log_evidence`, which holds at any stopping time.

        Args:
            images: (batch, height, width, channels) in [0, 1].
            n0: draws that choose the class.
            n: draws that estimate its probability, or the most of them.
            alpha: probability that a certificate is wrong.
            target_radius: in the standardised latent.
            share: in (0, 1), such as 0.1.
            index: numbers of the images in their data set, default 0, 1, ...: an
                image has the same draws under its number in whatever company, order
                or part of the data set.
            verbose: whether to show progress.

        Returns:
            A `Certificate`.

        Raises:
            ValueError: for a number out of its range, images out of [0, 1], or both
                target_radius and share.
        """
        images = checks.images("images", images)
        n0, n = checks.count("n0", n0), checks.count("n", n)
        alpha = checks.probability("alpha", alpha)
        if target_radius is not None and share is not None:
            raise ValueError(
                "Either `target_radius` or `share` can be given, not both. Received: "
                f"target_radius={target_radius}, share={share}"
            )
        # As tensors: another value is not another graph.
        if target_radius is not None:
            target_radius = checks.positive("target_radius", target_radius)
            target_radius = tf.constant(target_radius, tf.float64)
        if share is not None:
            share = tf.constant(checks.probability("share", share), tf.float64)
        rule = statistics.Rule(
            self.sigma, n, alpha, self.correction, target_radius, share
        )

        def finish(job: Job) -> tuple:
            p_lower, radius = job.conclusion
            best = np.where(radius > 0, job.counts.argmax(-1), ABSTAIN)
            return best, radius, p_lower, n0 + job.drawn

        rows = self._run("certify", images, index, n0, rule, finish, verbose)
        _warn_unless(rule.enough, n, rows[0][0])
        columns = (np.stack(column) for column in zip(*rows, strict=True))
        return Certificate(*columns, alpha)

    def _run(
        self,
        what: str,
        images: tf.Tensor,
        index: Any,
        n0: int,
        rule: statistics.Rule | None,
        finish: Callable[[Job], Any],
        verbose: bool,
    ) -> list:
        """`finish` of every image's job, when it is done; in the images' order."""
        index = _numbers(index, len(images))
        jobs = self.draws.run(images, index, self.seed, n0, rule, self._decide)
        bar = progress(range(len(images)), what, verbose)
        results = {job.place: finish(job) for _, job in zip(bar, jobs, strict=True)}
        return [results[place] for place in range(len(images))]

    # Graph code; exported SavedModels run it.

    def answer(self, counts: tf.Tensor, alpha: Any) -> tf.Tensor:
        """Answers for counts (..., classes) of an image, int64; see `predict`."""
        counts, top_classes = tf.math.top_k(counts, 2)
        p_values = statistics.binomial_test(counts[..., 0], counts[..., 1])
        sure = statistics.reject_by_p(p_values, alpha, self.correction)
        return tf.where(sure, tf.cast(top_classes[..., 0], tf.int64), ABSTAIN)

    def predict_one(
        self, image: tf.Tensor, n: Any, alpha: Any, seed: Any, index: Any
    ) -> tf.Tensor:
        """The answer for one image (1, height, width, channels); see `predict`."""
        conditioned = self._condition_one(image)
        counts = self.draws.count(conditioned, n, seed, index, SELECTION)
        return self.answer(counts, alpha)

    def certify_one(
        self, image: tf.Tensor, n0: Any, rule: statistics.Rule, seed: Any, index: Any
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Prediction, radius, p_lower and samples of one image; see `certify`."""
        conditioned = self._condition_one(image)
        counts = self.draws.count(conditioned, n0, seed, index, SELECTION)
        best = tf.argmax(counts, -1)
        p_lower, radius, drawn = self.draws.estimate(
            conditioned, best, rule, seed, index, ESTIMATION
        )
        return tf.where(radius > 0, best, ABSTAIN), radius, p_lower, n0 + drawn

    def _condition_one(self, image: tf.Tensor) -> Any:
        conditioned = self.perturbation_set.condition(image)
        return tf.nest.map_structure(
            lambda t: tf.repeat(t, self.draws.units, 0), conditioned
        )


def _numbers(index: Any, images: int) -> np.ndarray:
    index = np.arange(images) if index is None else np.asarray(index)
    whole = index.shape == (images,) and np.issubdtype(index.dtype, np.integer)
    if not whole or index.min() < 0 or index.max() >= 2**31:
        raise ValueError(
            f"`index` must be {images} whole numbers from 0 to 2^31 - 1, one for each "
            f"image. Received: index={index}"
        )
    return index


def _warn_unless(
    enough: Callable[[int, int], bool], n: int, answer: np.ndarray
) -> None:
    if enough(n, answer.size):
        return
    least = statistics.least_draws(lambda n: enough(n, answer.size))
    warnings.warn(
        f"{n} draws are too few to be sure of anything, even if all of them agree, so "
        f"every answer is {ABSTAIN}. Use n of at least {least}, or a larger alpha.",
        stacklevel=3,
    )

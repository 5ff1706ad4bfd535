"""How much of a latent ball changes a classifier's answer, from random draws of it."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks, outputs
from lps_tf._internal.progress import progress
from lps_tf.certification import statistics
from lps_tf.sets import latent
from lps_tf.sets.protocol import (
    Conditioned,
    LatentSet,
    decode_compiled,
    require_radius,
)

#: How perturbations are drawn from the ball.
Distribution = Literal["uniform", "truncated normal"]

_SAMPLERS = {
    "uniform": latent.sample_uniform_ball,
    "truncated normal": latent.sample_truncated_normal,
}


class FailureBound(NamedTuple):
    """What `probability_of_failure` returns, one entry an image.

    Attributes:
        upper: Upper confidence bound on the probability of failure, float64 (images,).
        failures: Number of draws that failed, int64 (images,).
        samples: Number of draws of each image.
        alpha: Probability, over the draws, that an image's bound is below its
            probability of failure.
    """

    upper: np.ndarray
    failures: np.ndarray
    samples: int
    alpha: float


def probability_of_failure(
    classifier: outputs.Classifier,
    perturbation_set: LatentSet,
    images: Any,
    labels: Any = None,
    *,
    radius: float | None = None,
    n: int = 1000,
    alpha: float = 1e-3,
    distribution: Distribution = "uniform",
    index: Any = None,
    batch_size: int = 256,
    seed: int = 0,
    verbose: bool = True,
) -> FailureBound:
    """Bounds how probable it is that a random perturbation makes a classifier fail.

    Latents are drawn from the ball of the radius, and the bound of Clopper and Pearson
    is taken of how many of them fail: with probability at least 1 - alpha over the
    draws, the bound of an image is at least the probability.

    It is no certificate. A certificate is about *every* perturbation within its radius,
    of the classifier smoothed by noise; this is about *most* of them, of the classifier
    as it is, and somebody who searches may find the others. For that it needs no noise,
    no training with noise and few draws: of n draws without a failure the bound is 1 -
    alpha^(1/n), 0.0069 of 1,000. In many dimensions nearly all of the ball is near its
    surface, and uniform draws are nearly all as large as it allows; the normal
    distribution truncated to the ball is the set's own idea of what is likely.

    Args:
        classifier: Keras model from images to logits (batch, classes).
        perturbation_set: Set whose perturbations are drawn.
        images: Images in [0, 1], (images, height, width, channels).
        labels: True classes, in any form that Keras takes: another answer is a failure.
            None takes the classifier's answer to the image itself instead.
        radius: Radius of the ball, default that of the set.
        n: Number of draws for an image.
        alpha: Error probability of each image's bound.
        distribution: "uniform" in the ball, or the "truncated normal" N(0, I).
        index: Indices of the images in their data set, default 0, 1, ...; with the seed
            they fix the draws.
        batch_size: Number of draws evaluated at once.
        seed: Seed of the draws.
        verbose: Whether to show progress.

    Returns:
        A `FailureBound`.

    Raises:
        ValueError: For a number out of its range, an unknown distribution, images or
            labels that do not suit, or a segmenter.

    References:
        Robey et al. (2022), "Probabilistically robust learning", arXiv:2202.01136.
    """
    n, alpha = checks.count("n", n), checks.probability("alpha", alpha)
    checks.known("distribution", distribution, get_args(Distribution))
    size = min(checks.count("batch_size", batch_size), n)
    radius = require_radius(perturbation_set, radius)
    classifier = outputs.required(classifier)
    x = checks.images("images", images)
    answers = _answers(classifier, x, labels)
    index = np.arange(len(x)) if index is None else np.asarray(index)
    if index.shape != (len(x),):
        raise ValueError(
            f"`index` must have one number for each of the {len(x)} images. "
            f"Received: shape {index.shape}"
        )
    sample = _SAMPLERS[distribution]
    count = _counter(
        classifier, perturbation_set, lambda shape, key: sample(shape, radius, key)
    )
    failures = np.zeros(len(x), np.int64)
    for i in progress(range(len(x)), "probability of failure", verbose):
        one = perturbation_set.condition(x[i : i + 1])
        # Repeated once for all draws: the image is the same.
        conditioned = tf.nest.map_structure(lambda t: tf.repeat(t, size, 0), one)
        key = latent.fold_in(tf.stack([0, seed]), int(index[i]))
        for start in range(0, n, size):
            failures[i] += count(
                conditioned,
                tf.constant(answers[i]),
                latent.fold_in(key, start),
                tf.constant(min(size, n - start)),
            ).numpy()
    lower = statistics.clopper_pearson_lower(n - failures, n, alpha)
    return FailureBound(1 - lower.numpy(), failures, n, alpha)


def _answers(classifier: outputs.Classifier, x: tf.Tensor, labels: Any) -> np.ndarray:
    """The answer that is no failure, int64 (images,)."""
    logits = outputs.logits(classifier, x)
    if logits.shape.rank != 2:
        raise ValueError(
            "`classifier` must give one class an image. Received: logits of shape "
            f"{tuple(logits.shape)}"
        )
    if labels is None:
        return tf.argmax(logits, -1).numpy()
    y = checks.labels_like(labels, logits.shape).numpy()
    if len(y) != len(x):
        raise ValueError(
            "`images` and `labels` must be equally long. "
            f"Received: lengths {len(x)} and {len(y)}"
        )
    return y


def _counter(
    classifier: outputs.Classifier,
    perturbation_set: LatentSet,
    draw: Callable[[tuple, tf.Tensor], tf.Tensor],
) -> Callable[..., tf.Tensor]:
    """A graph that counts the failures among draws of one image.

    Args:
        classifier: Classifier.
        perturbation_set: Set that is drawn from.
        draw: Latents of a shape, by a key.
    """

    @tf.function(autograph=False)
    def failures(
        conditioned: Conditioned, answer: tf.Tensor, key: tf.Tensor, used: tf.Tensor
    ) -> tf.Tensor:
        u = draw(tuple(conditioned.mean.shape), key)  # (batch_size, latent_dim)
        members = decode_compiled(perturbation_set, conditioned, u)
        logits = outputs.logits(classifier, members)
        # Logits that hold NaN are no answer.
        broken = tf.reduce_any(tf.math.is_nan(logits), -1)
        failed = (tf.argmax(logits, -1) != answer) | broken
        return tf.reduce_sum(tf.cast(failed[:used], tf.int64))

    return failures

"""What a classifier makes of several versions of each image of a batch."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf.perturbations import AttackResult
from lps_tf.sets.perturbation_set import PerturbationSet


class Scores(NamedTuple):
    """Losses and right answers, one row a version.

    Attributes:
        loss: cross-entropy, of a segmenter the mean over pixels, (versions, batch).
        right: 1 for a right answer, else 0; of a segmenter the share of pixels that
            are right, (versions, batch).
        confusion: of a segmenter, how many pixels of each label got each answer,
            (versions, batch, label, answer); else (versions, batch, 0, 0).
    """

    loss: np.ndarray
    right: np.ndarray
    confusion: np.ndarray


#: (versions of the images, labels) -> scores. See `scorer`.
Scorer = Callable[[Iterable[tf.Tensor], tf.Tensor], Scores]


def scorer(classifier: keras.layers.Layer, num_classes: int) -> Scorer:
    """A function that scores versions of images, compiled once.

    Args:
        classifier: a classifier or segmenter.
        num_classes: number of classes that labels and logits must have.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def predict(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = tf.cast(classifier(x, training=False), tf.float32)
        if logits.shape.rank != y.shape.rank + 1 or logits.shape[-1] != num_classes:
            raise ValueError(
                f"The classifier must give logits of {num_classes} classes for labels "
                f"of shape {tuple(y.shape)}. Received: logits of shape "
                f"{tuple(logits.shape)}"
            )
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
        inner = list(range(1, y.shape.rank))
        return tf.reduce_mean(losses, inner), tf.argmax(logits, -1)

    def score(versions: Iterable[tf.Tensor], y: tf.Tensor) -> Scores:
        y = checks.labels(y, num_classes)
        label = y.numpy()
        inner = tuple(range(1, label.ndim))
        scores = []
        for x in versions:
            loss, answer = (v.numpy() for v in predict(checks.images("x", x), y))
            confusion = np.zeros((len(label), 0, 0), np.int64)
            if inner:
                confusion = _confusion(label, answer, num_classes)
            scores.append((loss, (label == answer).mean(inner), confusion))
        return Scores(*(np.stack(values) for values in zip(*scores, strict=True)))

    return score


def _confusion(label: np.ndarray, answer: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts of pixels (batch, label, answer) of maps (batch, height, width)."""
    image = np.arange(len(label)).reshape(-1, 1, 1)
    cell = (image * num_classes + label) * num_classes + answer
    counts = np.bincount(cell.ravel(), minlength=len(label) * num_classes**2)
    return counts.reshape(-1, num_classes, num_classes)


def mean_iou(confusion: np.ndarray) -> float | None:
    """Mean intersection over union of the classes that are in label or answer.

    Args:
        confusion: counts of pixels, (label, answer).

    Returns:
        The mean, None if nothing was counted.
    """
    both = np.diagonal(confusion)
    either = confusion.sum(0) + confusion.sum(1) - both
    seen = either > 0
    return float((both[seen] / either[seen]).mean()) if seen.any() else None


def worst(scores: Scores) -> Scores:
    """The worst version of each image, as scores of one version.

    Of a segmenter it is the one of largest loss. A classifier is right only if it is
    right on all: of three classes, a wrong answer may have the smaller loss.
    """
    if scores.confusion.size:
        chosen = scores.loss.argmax(0)
        return Scores(*(v[chosen, np.arange(len(chosen))][None] for v in scores))
    loss, right = scores.loss.max(0), scores.right.min(0)
    return Scores(loss[None], right[None], scores.confusion[:1])


def attacked(
    score: Scorer,
    perturbation_set: PerturbationSet,
    x: tf.Tensor,
    y: tf.Tensor,
    result: AttackResult,
) -> Scores:
    """Scores of what an attack found, a version for each radius.

    Args:
        score: of the classifier.
        perturbation_set: that was searched.
        x: images of a batch.
        y: their labels.
        result: what the attack found.
    """
    if y.shape.rank == 1:
        confusion = np.zeros((*result.loss.shape, 0, 0), np.int64)
        return Scores(result.loss, 1.0 - result.success, confusion)
    # The result tells whether every pixel is wrong, not how many are right.
    clean, found = score([x], y), score(decoded(perturbation_set, x, result.u), y)
    # The image itself is in its set, and may be worse than what was found.
    members = (Scores(*(v[i : i + 1] for v in found)) for i in range(len(result.u)))
    return joined([worst(joined([clean, member])) for member in members])


def decoded(
    perturbation_set: PerturbationSet, x: tf.Tensor, u: np.ndarray
) -> Iterable[tf.Tensor]:
    """The perturbations of x by latents (radii, batch, latent_dim), by radius."""
    conditioned = perturbation_set.condition(x)
    return (perturbation_set.decode(conditioned, tf.constant(v)) for v in u)


def joined(scores: Iterable[Scores], axis: int = 0) -> Scores:
    """Scores as one: those of other versions (axis 0) or other images (axis 1)."""
    return Scores(*(np.concatenate(part, axis) for part in zip(*scores, strict=True)))

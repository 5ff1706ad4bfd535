"""What a classifier predicts for several versions of each image of a batch."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks, outputs
from lps_tf._internal.checks import VOID
from lps_tf._internal.outputs import Classifier
from lps_tf.perturbations import AttackResult
from lps_tf.perturbations.losses import cross_entropy
from lps_tf.sets.protocol import LatentSet, decode_compiled


class Scores(NamedTuple):
    """Losses and correct predictions, one row a version.

    Attributes:
        loss: Cross-entropy, of a segmenter the mean over labelled pixels, (versions,
            batch).
        correct: 1 for a correct prediction, else 0; of a segmenter the share of
            labelled pixels that are correct, (versions, batch). NaN of an image that
            is void.
        confusion: Numbers of pixels by label and prediction in a segmenter's maps,
            (versions, batch, label, prediction); else (versions, batch, 0, 0).
        calibration: For each of `BINS` equal ranges of confidence, the probability
            that a prediction was made with: the number of predictions, and the sum of
            confidence minus correct, (versions, batch, BINS, 2). Zeros where only
            the worst of several predictions is known.
        found_by: Name of the attack that found an image's version, str (versions,
            batch); "clean" where it is the image itself and "" where there was none.
    """

    loss: np.ndarray
    correct: np.ndarray
    confusion: np.ndarray
    calibration: np.ndarray
    found_by: np.ndarray


#: Number of ranges of confidence, as Guo et al. (2017) have it.
BINS = 15


#: (versions of the images, labels) -> scores. See `scorer`.
Scorer = Callable[[Iterable[Any], Any], Scores]


def scorer(
    classifier: Classifier,
    num_classes: int | None = None,
    ignore_class: int | None = None,
) -> Scorer:
    """A function that scores versions of images, compiled once.

    Args:
        classifier: Classifier or segmenter.
        num_classes: Number of classes that the classifier must have; None takes it as
            it is.
        ignore_class: Label of void pixels, which count in no score; None if there are
            none.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def predict(x: tf.Tensor) -> tf.Tensor:
        return outputs.logits(classifier, x)

    @tf.function(autograph=False, reduce_retracing=True)
    def compare(logits: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, ...]:
        inner = list(range(1, y.shape.rank))
        labelled = tf.reduce_sum(tf.cast(y != VOID, tf.float32), inner)
        total = tf.reduce_sum(cross_entropy(logits, y), inner)
        loss = tf.math.divide_no_nan(total, labelled)
        return loss, tf.argmax(logits, -1), tf.reduce_max(tf.nn.softmax(logits), -1)

    def score(versions: Iterable[Any], y: Any) -> Scores:
        scores, label = [], None
        for x in versions:
            logits = predict(checks.images("x", x))
            if label is None:
                _require_classes(logits, num_classes)
                target = checks.labels_like(y, logits.shape, ignore_class)
                label = target.numpy()
            loss, prediction, confidence = (v.numpy() for v in compare(logits, target))
            scores.append(
                (
                    loss,
                    *_compared(label, prediction, logits.shape[-1]),
                    _calibration(label, prediction, confidence),
                )
            )
        loss, *others = (np.stack(part) for part in zip(*scores, strict=True))
        correct, confusion, calibration = others
        found_by = np.full(loss.shape, "")
        return Scores(loss, correct, confusion, calibration, found_by)

    return score


def _require_classes(logits: tf.Tensor, num_classes: int | None) -> None:
    if num_classes is not None and logits.shape[-1] != num_classes:
        raise ValueError(
            f"The classifier must give logits of the {num_classes} classes of the "
            f"data. Received: logits of shape {tuple(logits.shape)}"
        )


def _compared(
    label: np.ndarray, prediction: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Correct predictions and confusion of a batch; see `Scores`."""
    inner = tuple(range(1, label.ndim))
    labelled, correct = (label != VOID).sum(inner), (label == prediction).sum(inner)
    with np.errstate(invalid="ignore"):  # 0 / 0 of an image that is void
        correct = correct / labelled
    confusion = np.zeros((len(label), 0, 0), np.int64)
    if inner:
        confusion = _confusion(label, prediction, num_classes)
    return correct, confusion


def _confusion(
    label: np.ndarray, prediction: np.ndarray, num_classes: int
) -> np.ndarray:
    """Counts of pixels (batch, label, prediction) of maps (batch, height, width)."""
    image = np.arange(len(label)).reshape(-1, 1, 1)
    # Each image, label and prediction has an index in a long vector.
    cell = (image * num_classes + label) * num_classes + prediction
    size = len(label) * num_classes**2
    counts = np.bincount(cell[label != VOID], minlength=size)
    return counts.reshape(-1, num_classes, num_classes)


def _calibration(
    label: np.ndarray, prediction: np.ndarray, confidence: np.ndarray
) -> np.ndarray:
    """Predictions by confidence, (batch, BINS, 2), without void; see `Scores`."""
    there = label != VOID
    image = np.arange(len(label)).reshape(-1, *[1] * (label.ndim - 1))
    # Each image and range of confidence has an index in a long vector. NaN, of logits
    # that have broken, is no confidence.
    sure = np.nan_to_num(confidence)[there]
    part = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)
    cell = np.broadcast_to(image, label.shape)[there] * BINS + part
    gaps = sure - (label == prediction)[there]
    size = len(label) * BINS
    sums = [np.bincount(cell, weights, size) for weights in (None, gaps)]
    return np.stack(sums, -1).reshape(-1, BINS, 2)


def calibration_error(calibration: np.ndarray) -> float | None:
    """Expected calibration error: how far confidence is from accuracy, on average.

    In each range of confidence the mean confidence and the share of correct
    predictions differ by some amount; this is its mean over predictions. A classifier
    that is right in 80% of what it predicts with a probability of 0.8 has none.

    Args:
        calibration: Numbers of predictions and sums of confidence minus correct,
            (BINS, 2).

    Returns:
        The error, in [0, 1]; None if nothing was counted.

    References:
        Guo et al. (2017), "On calibration of modern neural networks".
    """
    count = calibration[:, 0].sum()
    return float(np.abs(calibration[:, 1]).sum() / count) if count else None


def mean_iou(confusion: np.ndarray) -> float | None:
    """Mean intersection over union of the classes in label or prediction.

    Args:
        confusion: Counts of pixels, (label, prediction).

    Returns:
        The mean, None if nothing was counted.
    """
    both = np.diagonal(confusion)
    either = confusion.sum(0) + confusion.sum(1) - both
    seen = either > 0
    return float((both[seen] / either[seen]).mean()) if seen.any() else None


def by_version(scores: Scores, images: int) -> Scores:
    """Scores of images, each with its versions in a row, as those of a batch."""

    def apart(value: np.ndarray) -> np.ndarray:
        versions = value.shape[1] // images
        return value.reshape(images, versions, *value.shape[2:]).swapaxes(0, 1)

    return Scores(*map(apart, scores))


def mean(scores: Scores) -> Scores:
    """The mean of the versions of each image, as scores of one version."""
    return Scores(
        scores.loss.mean(0)[None],
        scores.correct.mean(0)[None],
        scores.confusion.sum(0)[None],
        scores.calibration.sum(0)[None],
        scores.found_by[:1],
    )


def worst(scores: Scores) -> Scores:
    """The worst version of each image, as scores of one version.

    Of a segmenter it is the one of largest loss. A classifier is correct only if it is
    so on all: of three classes, a wrong prediction may have the smaller loss.
    """
    if scores.confusion.size:
        chosen = scores.loss.argmax(0)
        return Scores(*(v[chosen, np.arange(len(chosen))][None] for v in scores))
    loss, correct = scores.loss.max(0), scores.correct.min(0)
    unknown = np.zeros_like(scores.calibration[:1])
    confusion, found_by = scores.confusion[:1], scores.found_by[:1]
    return Scores(loss[None], correct[None], confusion, unknown, found_by)


def attacked(
    score: Scorer,
    perturbation_set: LatentSet,
    x: Any,
    y: Any,
    result: AttackResult,
) -> Scores:
    """Scores of what an attack found, a version for each radius.

    Of a segmenter, what was found or the image itself: the one with fewer correct
    pixels, and of as many the one of larger loss.

    Args:
        score: Scorer of the classifier.
        perturbation_set: Set that was searched.
        x: Images of a batch.
        y: Their labels.
        result: What the attack found.
    """
    clean = score([x], y)
    if not clean.confusion.size:
        confusion = np.zeros((*result.loss.shape, 0, 0), np.int64)
        correct = np.where(np.isnan(clean.correct), np.nan, 1.0 - result.success)
        unknown = np.zeros((*result.loss.shape, BINS, 2))
        found_by = np.where(result.success, result.found_by, "")
        return Scores(result.loss, correct, confusion, unknown, found_by)
    # The result tells whether every pixel is wrong, not how many are correct.
    found = score(decoded(perturbation_set, x, result.u), y)
    found = found._replace(found_by=result.found_by)
    # The image itself is in its set, and may be worse than what was found.
    clean = clean._replace(found_by=np.full(clean.loss.shape, "clean"))
    as_many = found.correct == clean.correct
    worse = (found.correct < clean.correct) | as_many & (found.loss >= clean.loss)

    def chosen(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        choice = worse.reshape(worse.shape + (1,) * (one.ndim - 2))
        return np.where(choice, one, other)

    return Scores(*map(chosen, found, clean))


def decoded(
    perturbation_set: LatentSet, x: tf.Tensor, u: np.ndarray
) -> Iterable[tf.Tensor]:
    """The perturbations of x by latents (radii, batch, latent_dim), by radius."""
    conditioned = perturbation_set.condition(x)
    return (decode_compiled(perturbation_set, conditioned, tf.constant(v)) for v in u)


def joined(scores: Iterable[Scores], axis: int = 0) -> Scores:
    """Scores as one: those of other versions (axis 0) or other images (axis 1)."""
    return Scores(*(np.concatenate(part, axis) for part in zip(*scores, strict=True)))

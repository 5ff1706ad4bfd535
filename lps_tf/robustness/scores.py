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
    """

    loss: np.ndarray
    correct: np.ndarray
    confusion: np.ndarray


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
    def compare(logits: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        inner = list(range(1, y.shape.rank))
        labelled = tf.reduce_sum(tf.cast(y != VOID, tf.float32), inner)
        total = tf.reduce_sum(cross_entropy(logits, y), inner)
        return tf.math.divide_no_nan(total, labelled), tf.argmax(logits, -1)

    def score(versions: Iterable[Any], y: Any) -> Scores:
        scores, label = [], None
        for x in versions:
            logits = predict(checks.images("x", x))
            if label is None:
                _require_classes(logits, num_classes)
                target = checks.labels_like(y, logits.shape, ignore_class)
                label = target.numpy()
            loss, prediction = (v.numpy() for v in compare(logits, target))
            scores.append((loss, *_compared(label, prediction, logits.shape[-1])))
        return Scores(*(np.stack(values) for values in zip(*scores, strict=True)))

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


def worst(scores: Scores) -> Scores:
    """The worst version of each image, as scores of one version.

    Of a segmenter it is the one of largest loss. A classifier is correct only if it is
    so on all: of three classes, a wrong prediction may have the smaller loss.
    """
    if scores.confusion.size:
        chosen = scores.loss.argmax(0)
        return Scores(*(v[chosen, np.arange(len(chosen))][None] for v in scores))
    loss, correct = scores.loss.max(0), scores.correct.min(0)
    return Scores(loss[None], correct[None], scores.confusion[:1])


def attacked(
    score: Scorer,
    perturbation_set: LatentSet,
    x: Any,
    y: Any,
    result: AttackResult,
) -> Scores:
    """Scores of what an attack found, a version for each radius.

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
        return Scores(result.loss, correct, confusion)
    # The result tells whether every pixel is wrong, not how many are correct.
    found = score(decoded(perturbation_set, x, result.u), y)
    # The image itself is in its set, and may be worse than what was found.
    members = (Scores(*(v[i : i + 1] for v in found)) for i in range(len(result.u)))
    return joined([worst(joined([clean, member])) for member in members])


def decoded(
    perturbation_set: LatentSet, x: tf.Tensor, u: np.ndarray
) -> Iterable[tf.Tensor]:
    """The perturbations of x by latents (radii, batch, latent_dim), by radius."""
    conditioned = perturbation_set.condition(x)
    return (decode_compiled(perturbation_set, conditioned, tf.constant(v)) for v in u)


def joined(scores: Iterable[Scores], axis: int = 0) -> Scores:
    """Scores as one: those of other versions (axis 0) or other images (axis 1)."""
    return Scores(*(np.concatenate(part, axis) for part in zip(*scores, strict=True)))

"""What an attack ascends: losses of logits, one value for each prediction."""

from collections.abc import Callable
from functools import cache
from typing import Any

import tensorflow as tf

from lps_tf.sets.perturbation_set import PerturbationSet
from lps_tf.sets.protocol import Conditioned
from lps_tf.sets.search import Objective


def cross_entropy(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of each prediction.

    Args:
        logits: (batch, ..., classes).
        y: integer labels (batch, ...), or probabilities of the shape of the logits.
            From the probabilities f(x), its gradient is that of KL(f(x) || f(x')).

    Returns:
        (batch, ...).
    """
    if soft(y):
        return tf.nn.softmax_cross_entropy_with_logits(y, logits)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)


def difference_of_logits_ratio(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """DLR (Croce and Hein 2020): margin of the best wrong class over a spread.

    The spread, the difference of the largest and the third largest logit, makes it
    blind to the scale of the logits, on which gradients of cross-entropy vanish. With
    two classes there is no third, and it is the plain margin.

    Args:
        logits: (batch, ..., classes).
        y: integer labels, (batch, ...); of probabilities, the most likely class.

    Returns:
        (batch, ...); positive where the answer is wrong.
    """
    num_classes = logits.shape[-1]
    y = tf.argmax(y, -1) if soft(y) else y

    def without(logits: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
        # Finite, because 0 * infinity would be NaN in a gradient.
        return logits - 1e9 * tf.one_hot(which, num_classes)

    own = tf.reduce_sum(logits * tf.one_hot(y, num_classes), -1)
    margin = tf.reduce_max(without(logits, y), -1) - own
    if num_classes < 3:
        return margin
    rest = without(logits, tf.argmax(logits, -1))
    third = tf.reduce_max(without(rest, tf.argmax(rest, -1)), -1)
    return margin / (tf.reduce_max(logits, -1) - third + 1e-12)


def soft(y: tf.Tensor) -> bool:
    """Whether labels are probabilities, not classes."""
    return tf.as_dtype(y.dtype).is_floating


def over_image(values: tf.Tensor) -> tf.Tensor:
    """Summed over all but the batch: a segmenter's pixels count together."""
    return tf.reduce_sum(values, list(range(1, values.shape.rank)))


@cache  # one function for each tuple of losses, so that it compiles once
def predictions(losses: tuple[Callable, ...]) -> Objective:
    """The objective of attacks on a classifier: the loss of what it predicts.

    Args:
        losses: of logits and labels. Each example's `numbers["kind"]` says which of
            them counts; the first one, the cross-entropy, tells the worst latents.
    """

    def objective(
        pset: PerturbationSet,
        classifier: Any,
        conditioned: Conditioned,
        y: tf.Tensor,
        numbers: dict,
        u: tf.Tensor,
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        logits = classifier(pset.decode(conditioned, u), training=False)
        logits = tf.cast(logits, tf.float32)
        values = [over_image(loss(logits, y)) for loss in losses]
        value = values[0]
        for kind, other in enumerate(values[1:], 1):
            value = tf.where(numbers["kind"] == kind, other, value)
        return value, (values[0], all_wrong(logits, y))

    return objective


def all_wrong(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Whether each example is misclassified; of a segmenter, at every pixel.

    Probabilities instead of labels have no wrong answer.
    """
    if soft(y):
        return tf.zeros(tf.shape(logits)[:1], tf.bool)
    right = tf.argmax(logits, -1) == tf.cast(y, tf.int64)
    return ~tf.reduce_any(right, list(range(1, right.shape.rank)))

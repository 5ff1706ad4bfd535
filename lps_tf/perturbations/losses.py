"""What an attack ascends: losses of logits, one value for each prediction."""

from collections.abc import Callable
from functools import cache

import tensorflow as tf

from lps_tf._internal import checks, outputs
from lps_tf._internal.checks import VOID
from lps_tf.sets.search import AttackObjective, Problem

#: (logits, labels) -> one value for each prediction.
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def cross_entropy(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of each prediction; 0 where the label is void.

    Args:
        logits: Logits, (batch, ..., classes).
        y: Labels (batch, ...), or probabilities of the shape of the logits.
            From the probabilities f(x), its gradient is that of KL(f(x) || f(x')).

    Returns:
        (batch, ...).
    """
    if is_soft(y):
        return tf.nn.softmax_cross_entropy_with_logits(y, logits)
    checks.suit(y.shape, logits.shape)
    values = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(y, 0), logits)
    return tf.where(y == VOID, tf.zeros_like(values), values)


def difference_of_logits_ratio(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """DLR (Croce and Hein 2020): margin of the best wrong class over a spread.

    The spread, the difference of the largest and the third largest logit, makes it
    blind to the scale of the logits, on which gradients of cross-entropy vanish. With
    two classes there is no third, and it is the plain margin.

    Args:
        logits: Logits, (batch, ..., classes).
        y: Labels, (batch, ...); of probabilities, the most likely class counts.

    Returns:
        (batch, ...); positive where the prediction is wrong, 0 where the label is void.
    """
    num_classes = logits.shape[-1]
    y = tf.argmax(y, -1) if is_soft(y) else y

    def without(logits: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
        # Finite, because 0 * infinity would be NaN in a gradient.
        return logits - 1e9 * tf.one_hot(which, num_classes)

    own = tf.reduce_sum(logits * tf.one_hot(y, num_classes), -1)
    margin = tf.reduce_max(without(logits, y), -1) - own
    if num_classes > 2:
        rest = without(logits, tf.argmax(logits, -1))
        third = tf.reduce_max(without(rest, tf.argmax(rest, -1)), -1)
        margin /= tf.reduce_max(logits, -1) - third + 1e-12
    return tf.where(y == VOID, tf.zeros_like(margin), margin)


def is_soft(y: tf.Tensor) -> bool:
    """Whether labels are probabilities, not classes."""
    return tf.as_dtype(y.dtype).is_floating


def over_image(values: tf.Tensor) -> tf.Tensor:
    """Summed over all but the batch: a segmenter's pixels count together."""
    return tf.reduce_sum(values, list(range(1, values.shape.rank)))


@cache  # one function for each tuple of losses, so that it compiles once
def predictions(losses: tuple[Loss, ...]) -> AttackObjective:
    """The objective of attacks on a classifier: the loss of what it predicts.

    Args:
        losses: Losses of logits and labels. Each example's `parameters["loss_index"]`
            says which of them counts; the first one, the cross-entropy, tells the
            worst latents.
    """

    def objective(
        problem: Problem, u: tf.Tensor
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        images = problem.perturbation_set.decode(problem.conditioned, u)
        logits, y = outputs.logits(problem.classifier, images), problem.y
        values = [over_image(loss(logits, y)) for loss in losses]
        value = values[0]
        for index, other in enumerate(values[1:], 1):
            value = tf.where(problem.parameters["loss_index"] == index, other, value)
        return value, (values[0], all_wrong(logits, y))

    return objective


def all_wrong(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Whether each example is misclassified; of a segmenter, at every labelled pixel.

    Probabilities instead of labels, and images that are void as a whole, have no wrong
    prediction.
    """
    if is_soft(y):
        return tf.zeros(tf.shape(logits)[:1], tf.bool)
    inner = list(range(1, y.shape.rank))
    correct = tf.argmax(logits, -1) == tf.cast(y, tf.int64)
    labelled = tf.reduce_any(y != VOID, inner)
    return labelled & ~tf.reduce_any(correct, inner)

"""What an attack ascends: losses of logits, one value for each prediction."""

from collections.abc import Callable
from functools import cache

import numpy as np
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
    value = margin(logits, y)
    if logits.shape[-1] > 2:
        first, _, third = _largest(logits, 3)
        value /= first - third + 1e-12
    return value


def margin(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """The largest logit of a wrong class less that of the label.

    Args:
        logits: Logits, (batch, ..., classes).
        y: Labels, (batch, ...); of probabilities, the most likely class counts.

    Returns:
        (batch, ...); positive where the prediction is wrong, 0 where the label is void.
    """
    y = most_likely(y)
    value = tf.reduce_max(_without(logits, y), -1) - _at(logits, y)
    return tf.where(y == VOID, tf.zeros_like(value), value)


def targeted_margin(logits: tf.Tensor, y: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """The logit of a target class less that of the label.

    Args:
        logits: Logits, (batch, classes).
        y: Labels, (batch,); of probabilities, the most likely class counts.
        target: Wrong classes, (batch,).

    Returns:
        (batch,); positive where the target is likelier than the label.
    """
    return _at(logits, target) - _at(logits, most_likely(y))


def targeted_difference_of_logits_ratio(
    logits: tf.Tensor, y: tf.Tensor, target: tf.Tensor
) -> tf.Tensor:
    """Targeted DLR (Croce and Hein 2020): margin of one wrong class over a spread.

    The spread is the largest logit less the mean of the third and the fourth one. Of
    three classes it is the first less the third; of two there is none, and it is the
    plain margin.

    Args:
        logits: Logits, (batch, classes).
        y: Labels, (batch,); of probabilities, the most likely class counts.
        target: Wrong classes, (batch,).

    Returns:
        (batch,); positive where the target is likelier than the label.
    """
    value = targeted_margin(logits, y, target)
    if logits.shape[-1] > 2:
        first, _, *rest = _largest(logits, min(4, logits.shape[-1]))
        value /= first - tf.add_n(rest) / len(rest) + 1e-12
    return value


def likeliest_others(logits: tf.Tensor, y: tf.Tensor, number: int) -> tf.Tensor:
    """The wrong classes of largest logits, in that order.

    Args:
        logits: Logits, (batch, classes).
        y: Labels, (batch,); of probabilities, the most likely class counts.
        number: Number of classes; there may be fewer.

    Returns:
        (batch, least of `number` and classes - 1), int32.
    """
    others = _without(logits, most_likely(y))
    number = min(number, logits.shape[-1] - 1)
    return tf.argsort(others, direction="DESCENDING", stable=True)[:, :number]


def _at(logits: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(logits * tf.one_hot(which, logits.shape[-1]), -1)


def _without(logits: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
    # Finite, because 0 * infinity would be NaN in a gradient.
    return logits - 1e9 * tf.one_hot(which, logits.shape[-1])


def _largest(logits: tf.Tensor, number: int) -> list[tf.Tensor]:
    """The largest logits in descending order, each (batch, ...)."""
    found = []
    for _ in range(number):
        found.append(tf.reduce_max(logits, -1))
        logits = _without(logits, tf.argmax(logits, -1))
    return found


def most_likely(y: tf.Tensor) -> tf.Tensor:
    """Labels as classes; of probabilities, the most likely one."""
    return tf.argmax(y, -1) if is_soft(y) else y


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


#: (logits, labels, target classes) -> one value for each example.
TargetedLoss = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


@cache
def towards_target(loss: TargetedLoss) -> AttackObjective:
    """The objective of targeted attacks on a classifier.

    Args:
        loss: Loss of logits, labels and each example's `parameters["target"]`, a class.
    """

    def objective(
        problem: Problem, u: tf.Tensor
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        images = problem.perturbation_set.decode(problem.conditioned, u)
        logits, y = outputs.logits(problem.classifier, images), problem.y
        value = loss(logits, y, problem.parameters["target"])
        # Any wrong class will do.
        return value, (cross_entropy(logits, y), all_wrong(logits, y))

    return objective


def segmentation(
    problem: Problem, u: tf.Tensor
) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
    """The objective of attacks on a segmenter's pixels (Croce, Singh and Hein 2024).

    Cross-entropy of all pixels is spent on those that are wrong already. Gradients are
    those of one of three losses, as each example's `parameters["loss_index"]` says:

    * 0, masked cross-entropy: of the pixels that are still correct.
    * 1, balanced cross-entropy (Gu et al. 2022): correct pixels count 1 - share and
      wrong ones share, which rises from 0 to a half over the steps.
    * 2, the Jensen-Shannon divergence of prediction and label, whose gradient fades
      on pixels that are wrong for certain.

    The value that steps are judged by is the cross-entropy of all pixels, for each of
    them; latents are compared by the number of correct pixels.
    """
    images = problem.perturbation_set.decode(problem.conditioned, u)
    logits, y = outputs.logits(problem.classifier, images), problem.y
    entropy = cross_entropy(logits, y)  # (batch, height, width), 0 where void
    correct = tf.argmax(logits, -1) == tf.cast(most_likely(y), tf.int64)
    steps = tf.cast(problem.steps, tf.float32)
    share = 0.5 * tf.cast(problem.parameters["step"], tf.float32) / steps
    candidates = (
        masked_cross_entropy(entropy, correct),
        balanced_cross_entropy(entropy, correct, share[:, None, None]),
        jensen_shannon(entropy),
    )
    pushed, *others = map(over_image, candidates)
    for index, other in enumerate(others, 1):
        chosen = problem.parameters["loss_index"] == index
        pushed = tf.where(chosen, other, pushed)
    value = tf.stop_gradient(over_image(entropy) - pushed) + pushed
    number = -over_image(tf.cast(correct, tf.float32))
    return value, (number, all_wrong(logits, y))


def masked_cross_entropy(entropy: tf.Tensor, correct: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of each pixel, 0 of those that are wrong already.

    Args:
        entropy: Cross-entropies, (batch, height, width).
        correct: Whether pixels are correct, of that shape.
    """
    return tf.where(correct, entropy, tf.zeros_like(entropy))


def balanced_cross_entropy(
    entropy: tf.Tensor, correct: tf.Tensor, share: tf.Tensor
) -> tf.Tensor:
    """Cross-entropy of each pixel, times `share` where wrong and 1 - share elsewhere.

    Args:
        entropy: Cross-entropies, (batch, height, width).
        correct: Whether pixels are correct, of that shape.
        share: Weight of wrong pixels, in [0, 1], of a shape that goes with it.
    """
    return tf.where(correct, 1 - share, share) * entropy


def jensen_shannon(entropy: tf.Tensor) -> tf.Tensor:
    """Jensen-Shannon divergence, in nats, of each pixel's softmax and its label.

    With p the probability of the label it is log 2 + (p log p - (1 + p) log(1 + p)) /
    2: from 0 where p is 1 to log 2 where it is 0.

    Args:
        entropy: Cross-entropies -log p, (batch, height, width); 0 where void.
    """
    p = tf.exp(-entropy)
    return np.log(2) - 0.5 * (p * entropy + (1 + p) * tf.math.log1p(p))


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

"""What to minimise, given images and what a perturbation makes of them.

`RobustClassifier` takes one of these, or any object like `TrainingObjective`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from lps_tf._internal import checks
from lps_tf._internal.fixed import Fixed

#: (labels (batch, ...), logits (batch, ..., classes)) -> one loss for each prediction.
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Predictions(NamedTuple):
    """What is predicted for a batch, and how much each prediction counts.

    Attributes:
        y: Labels, (batch, ...), int64; -1 where void.
        clean: Logits of x, (batch, ..., classes); None unless `needs_clean`.
        perturbed: Logits of each sample of x', (num_samples, batch, ..., classes).
        weight: Weight of each prediction, (batch, ...): an example's loss is the sum
            over its predictions of weight times loss. It is 1 / pixels in a segmenter,
            0 where void, times the example's own weight.
    """

    y: tf.Tensor
    clean: Any
    perturbed: tf.Tensor
    weight: tf.Tensor


class TrainingObjective(Protocol):
    """The losses to minimise, one for each example."""

    @property
    def needs_clean(self) -> bool:
        """Whether it takes the predictions on clean images."""
        ...

    @property
    def from_predictions(self) -> bool:
        """Whether a perturbation is to move the predictions on clean images.

        Otherwise it raises the loss at the labels.
        """
        ...

    def __call__(self, loss: Loss, batch: Predictions, /) -> tf.Tensor:
        """Losses of a batch, (batch,), by the loss of labels and logits."""
        ...


def per_example(values: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Values of predictions (batch, ...), weighted and summed for each: (batch,)."""
    return tf.reduce_sum(values * weight, list(range(1, values.shape.rank)))


def prediction_weights(y: tf.Tensor, weight: tf.Tensor | None = None) -> tf.Tensor:
    """The weight of each prediction in its example's loss, (batch, ...).

    Args:
        y: Labels, (batch, ...); -1 where void.
        weight: Weights of the examples, (batch,), or of the predictions; None for 1.
    """
    valid = tf.cast(y != checks.VOID, tf.float32)
    inner = list(range(1, y.shape.rank))
    # Every image counts the same, however many of its pixels are labelled.
    share = valid / tf.maximum(tf.reduce_sum(valid, inner, keepdims=True), 1.0)
    return share if weight is None else share * expanded(weight, y)


def class_weights(
    y: tf.Tensor, weights: dict[int, float], num_classes: int
) -> tf.Tensor:
    """The weight of each label's class, of the shape of the labels; others have 1."""
    wrong = [k for k in weights if not 0 <= k < num_classes]
    if wrong:
        raise ValueError(
            f"`class_weight` must have the classes 0 to {num_classes - 1} as keys. "
            f"Received: keys {wrong}"
        )
    table = [float(weights.get(k, 1.0)) for k in range(num_classes)]
    return tf.gather(tf.constant(table), tf.maximum(y, 0))


def expanded(weight: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Weights (batch,) with the axes of maps: (batch, 1, 1); others as they are."""
    missing = [1] * (y.shape.rank - weight.shape.rank)
    return tf.reshape(weight, tf.concat([tf.shape(weight), missing], 0))


def _divergence(p: tf.Tensor, log_p: tf.Tensor, log_q: tf.Tensor) -> tf.Tensor:
    """KL(p || q) of each prediction."""
    return tf.reduce_sum(p * (log_p - log_q), -1)


def _mean_over_samples(
    function: Callable[[tf.Tensor], tf.Tensor], perturbed: tf.Tensor
) -> tf.Tensor:
    samples = tf.unstack(perturbed)
    return tf.add_n([function(sample) for sample in samples]) / len(samples)


class PerturbedLoss:
    """The loss on x', or its mean over samples: augmentation, noise, SmoothAdv."""

    needs_clean = False
    from_predictions = False

    def __call__(self, loss: Loss, batch: Predictions) -> tf.Tensor:
        """Losses of a batch, (batch,)."""
        values = _mean_over_samples(
            lambda sample: loss(batch.y, sample), batch.perturbed
        )
        return per_example(values, batch.weight)


class WorstLoss:
    """max(loss(x), loss(x')), the paper's adversarial training (section 5)."""

    needs_clean = True
    from_predictions = False

    def __call__(self, loss: Loss, batch: Predictions) -> tf.Tensor:
        """Losses of a batch, (batch,)."""
        losses = [
            per_example(loss(batch.y, logits), batch.weight)
            for logits in (batch.clean, *tf.unstack(batch.perturbed))
        ]
        return tf.reduce_max(tf.stack(losses), 0)


class Trades(Fixed):
    """TRADES in the latent (Zhang et al. 2019): loss(x) + beta KL(f(x) || f(x')).

    x' is to raise the divergence: attacks get the probabilities f(x) as labels.

    Args:
        beta: Weight of robustness against accuracy.

    Raises:
        ValueError: If beta is not positive.
    """

    FIXED = ("beta",)

    needs_clean = True
    from_predictions = True

    def __init__(self, beta: float = 6.0):
        self.beta = checks.positive("beta", beta)

    def __call__(self, loss: Loss, batch: Predictions) -> tf.Tensor:
        """Losses of a batch, (batch,)."""
        p, log_p = tf.nn.softmax(batch.clean), tf.nn.log_softmax(batch.clean)

        def divergence(sample: tf.Tensor) -> tf.Tensor:
            return _divergence(p, log_p, tf.nn.log_softmax(sample))

        moved = _mean_over_samples(divergence, batch.perturbed)
        return per_example(loss(batch.y, batch.clean) + self.beta * moved, batch.weight)


class Mart(Fixed):
    """MART in the latent (Wang et al. 2020): more weight on what x gets wrong.

    loss(x') - log(1 - the largest wrong probability at x')
    + beta (1 - p_y(x)) KL(f(x) || f(x')).

    Args:
        beta: Weight of the divergence.

    Raises:
        ValueError: If beta is not positive.
    """

    FIXED = ("beta",)

    needs_clean = True
    from_predictions = False

    def __init__(self, beta: float = 5.0):
        self.beta = checks.positive("beta", beta)

    def __call__(self, loss: Loss, batch: Predictions) -> tf.Tensor:
        """Losses of a batch, (batch,)."""
        p, log_p = tf.nn.softmax(batch.clean), tf.nn.log_softmax(batch.clean)
        own = tf.one_hot(batch.y, p.shape[-1])
        p_label = tf.reduce_sum(own * p, -1)

        def boosted(sample: tf.Tensor) -> tf.Tensor:
            q, log_q = tf.nn.softmax(sample), tf.nn.log_softmax(sample)
            wrong = tf.reduce_max((1 - own) * q, -1)
            # Away from log 0, where float32 has the wrong class certain.
            margin = -tf.math.log(1.0001 - wrong)
            moved = (1 - p_label) * _divergence(p, log_p, log_q)
            return loss(batch.y, sample) + margin + self.beta * moved

        return per_example(_mean_over_samples(boosted, batch.perturbed), batch.weight)


class Consistency(Fixed):
    """Consistency of noisy predictions, for smoothing (Jeong and Shin 2020).

    mean loss + weight * mean KL(mean prediction || each) + entropy * entropy of the
    mean prediction, over the samples: use it with `LatentNoise(..., num_samples=2)`.

    Args:
        weight: Weight of the divergence.
        entropy: Weight of the entropy.

    Raises:
        ValueError: If a weight is not positive.
    """

    FIXED = ("weight", "entropy")

    needs_clean = False
    from_predictions = False

    def __init__(self, weight: float = 10.0, entropy: float = 0.5):
        self.weight = checks.positive("weight", weight)
        self.entropy = checks.positive("entropy", entropy)

    def __call__(self, loss: Loss, batch: Predictions) -> tf.Tensor:
        """Losses of a batch, (batch,).

        Raises:
            ValueError: If the perturbation gives a single sample.
        """
        if batch.perturbed.shape[0] < 2:
            raise ValueError(
                "Consistency compares samples: use a perturbation that gives several, "
                "such as `LatentNoise(..., num_samples=2)`. Received: 1 sample"
            )
        logs = tf.nn.log_softmax(batch.perturbed)
        mean = tf.reduce_mean(tf.exp(logs), 0)
        log_mean = tf.math.log(tf.maximum(mean, 1e-30))

        def inconsistent(sample: tf.Tensor) -> tf.Tensor:
            moved = _divergence(mean, log_mean, tf.nn.log_softmax(sample))
            return loss(batch.y, sample) + self.weight * moved

        spread = -tf.reduce_sum(mean * log_mean, -1)
        losses = (
            _mean_over_samples(inconsistent, batch.perturbed) + self.entropy * spread
        )
        return per_example(losses, batch.weight)

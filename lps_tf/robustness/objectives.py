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


def _mean_prediction(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The mean probabilities of logits (samples, ...), and their logarithm."""
    mean = tf.reduce_mean(tf.nn.softmax(logits), 0)
    return mean, tf.math.log(tf.maximum(mean, 1e-30))


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


class CVaR(Fixed):
    """Robust to most perturbations: the mean of the largest losses among samples of x'.

    The conditional value at risk of the loss over random perturbations, the mean over
    the share of them where it is largest (Robey et al. 2022, "Probabilistically robust
    learning", arXiv:2202.01136). Between the mean over the samples (a share of 1,
    `PerturbedLoss`) and the largest of them (a share of at most 1 / samples); of m
    samples, the largest share * m count, the last of them in part. Use it with random
    perturbations of several samples, such as `LatentAugmentation(..., num_samples=8)`.

    Args:
        share: Share of the perturbations, in (0, 1]: the smaller, the nearer to the
            worst one.

    Raises:
        ValueError: If the share is not in (0, 1].
    """

    FIXED = ("share",)

    needs_clean = False
    from_predictions = False

    def __init__(self, share: float = 0.25):
        self.share = checks.positive("share", share)
        if self.share > 1:
            raise ValueError(f"`share` must be at most 1. Received: share={share}")

    def __call__(self, loss: Loss, batch: Predictions) -> tf.Tensor:
        """Losses of a batch, (batch,).

        Raises:
            ValueError: If the perturbation gives a single sample.
        """
        samples = batch.perturbed.shape[0]
        _require_samples(samples, "CVaR")
        losses = [
            per_example(loss(batch.y, sample), batch.weight)
            for sample in tf.unstack(batch.perturbed)
        ]
        # (samples, batch), the largest first, and how much each of them counts.
        losses = tf.sort(tf.stack(losses), 0, direction="DESCENDING")
        counted = max(self.share * samples, 1.0)
        weights = tf.clip_by_value(counted - tf.range(float(samples)), 0.0, 1.0)
        return tf.reduce_sum(losses * weights[:, None], 0) / counted


def _require_samples(samples: int, name: str) -> None:
    """Raises ValueError unless a perturbation gives several samples."""
    if samples < 2:
        raise ValueError(
            f"{name} compares samples: use a perturbation that gives several, such as "
            f"`LatentNoise(..., num_samples=2)`. Received: {samples} sample"
        )


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
        _require_samples(batch.perturbed.shape[0], "Consistency")
        mean, log_mean = _mean_prediction(batch.perturbed)

        def inconsistent(sample: tf.Tensor) -> tf.Tensor:
            moved = _divergence(mean, log_mean, tf.nn.log_softmax(sample))
            return loss(batch.y, sample) + self.weight * moved

        spread = -tf.reduce_sum(mean * log_mean, -1)
        losses = (
            _mean_over_samples(inconsistent, batch.perturbed) + self.entropy * spread
        )
        return per_example(losses, batch.weight)


class JensenShannon(Fixed):
    """Predictions that augmentation leaves as they are (Hendrycks et al. 2020).

    loss(x) + weight * JS(f(x), f(x'_1), ..., f(x'_m)): the loss on the image itself,
    and the Jensen-Shannon divergence of the predictions on it and on its m augmented
    versions, the mean of KL(each || mean of all). AugMix and PRIME are trained with two
    versions and a weight of 12: `AugMix()` or `Prime()` as the perturbation.

    Args:
        weight: Weight of the divergence.

    Raises:
        ValueError: If the weight is not positive.

    References:
        Hendrycks et al. (2020), "AugMix", arXiv:1912.02781, section 3, equation 1.
    """

    FIXED = ("weight",)

    needs_clean = True
    from_predictions = False

    def __init__(self, weight: float = 12.0):
        self.weight = checks.positive("weight", weight)

    def __call__(self, loss: Loss, batch: Predictions) -> tf.Tensor:
        """Losses of a batch, (batch,)."""
        logits = tf.concat([batch.clean[None], batch.perturbed], 0)
        _, log_mean = _mean_prediction(logits)

        def moved(sample: tf.Tensor) -> tf.Tensor:
            return _divergence(
                tf.nn.softmax(sample), tf.nn.log_softmax(sample), log_mean
            )

        divergence = _mean_over_samples(moved, logits)
        losses = loss(batch.y, batch.clean) + self.weight * divergence
        return per_example(losses, batch.weight)

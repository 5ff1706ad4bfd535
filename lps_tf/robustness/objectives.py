"""What to minimise, given images and what a perturbation makes of them.

`RobustClassifier` takes one of these, or any object with the same attributes: a call
gives the losses to minimise, `needs_clean` says whether that takes the predictions on
clean images, and `from_predictions` whether a perturbation is to move the predictions
on clean images, instead of raising the loss at the labels.

In a call, `loss` maps labels (batch, ...) and logits (batch, ..., classes) to one loss
for each prediction; `clean` are logits of x, `perturbed` those of each view of x',
(views, batch, ..., classes). The result is (batch,); a segmenter's pixels are averaged.
"""

from collections.abc import Callable

import tensorflow as tf

from lps_tf._internal import checks

#: (labels, logits) -> losses
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def per_example(values: tf.Tensor) -> tf.Tensor:
    """(batch, ...) averaged over all but the batch: (batch,)."""
    return tf.reduce_mean(values, list(range(1, values.shape.rank)))


def _divergence(p: tf.Tensor, log_p: tf.Tensor, log_q: tf.Tensor) -> tf.Tensor:
    """KL(p || q) of each prediction."""
    return tf.reduce_sum(p * (log_p - log_q), -1)


def _mean_over_views(function: Callable, perturbed: tf.Tensor) -> tf.Tensor:
    views = tf.unstack(perturbed)
    return tf.add_n([function(view) for view in views]) / len(views)


class PerturbedLoss:
    """The loss on x', or its mean over views: augmentation, noise, SmoothAdv."""

    needs_clean = False
    from_predictions = False

    def __call__(
        self, loss: Loss, y: tf.Tensor, clean: tf.Tensor | None, perturbed: tf.Tensor
    ) -> tf.Tensor:
        """Losses of a batch, (batch,)."""
        return per_example(_mean_over_views(lambda view: loss(y, view), perturbed))


class WorstLoss:
    """max(loss(x), loss(x')), the paper's adversarial training (section 5)."""

    needs_clean = True
    from_predictions = False

    def __call__(
        self, loss: Loss, y: tf.Tensor, clean: tf.Tensor, perturbed: tf.Tensor
    ) -> tf.Tensor:
        """Losses of a batch, (batch,)."""
        losses = [per_example(loss(y, clean))]
        losses += [per_example(loss(y, view)) for view in tf.unstack(perturbed)]
        return tf.reduce_max(tf.stack(losses), 0)


class Trades:
    """TRADES in the latent (Zhang et al. 2019): loss(x) + beta KL(f(x) || f(x')).

    x' is to raise the divergence: attacks get the probabilities f(x) as labels.

    Args:
        beta: weight of robustness against accuracy.

    Raises:
        ValueError: if beta is not positive.
    """

    needs_clean = True
    from_predictions = True

    def __init__(self, beta: float = 6.0):
        self.beta = checks.positive("beta", beta)

    def __call__(
        self, loss: Loss, y: tf.Tensor, clean: tf.Tensor, perturbed: tf.Tensor
    ) -> tf.Tensor:
        """Losses of a batch, (batch,)."""
        p, log_p = tf.nn.softmax(clean), tf.nn.log_softmax(clean)

        def divergence(view: tf.Tensor) -> tf.Tensor:
            return _divergence(p, log_p, tf.nn.log_softmax(view))

        moved = _mean_over_views(divergence, perturbed)
        return per_example(loss(y, clean) + self.beta * moved)


class Mart:
    """MART in the latent (Wang et al. 2020): more weight on what x gets wrong.

    loss(x') - log(1 - the largest wrong probability at x')
    + beta (1 - p_y(x)) KL(f(x) || f(x')).

    Args:
        beta: weight of the divergence.

    Raises:
        ValueError: if beta is not positive.
    """

    needs_clean = True
    from_predictions = False

    def __init__(self, beta: float = 5.0):
        self.beta = checks.positive("beta", beta)

    def __call__(
        self, loss: Loss, y: tf.Tensor, clean: tf.Tensor, perturbed: tf.Tensor
    ) -> tf.Tensor:
        """Losses of a batch, (batch,)."""
        p, log_p = tf.nn.softmax(clean), tf.nn.log_softmax(clean)
        own = tf.one_hot(y, clean.shape[-1])
        p_label = tf.reduce_sum(own * p, -1)

        def boosted(view: tf.Tensor) -> tf.Tensor:
            q, log_q = tf.nn.softmax(view), tf.nn.log_softmax(view)
            wrong = tf.reduce_max((1 - own) * q, -1)
            # Away from log 0, where float32 has the wrong class certain.
            margin = -tf.math.log(1.0001 - wrong)
            moved = (1 - p_label) * _divergence(p, log_p, log_q)
            return loss(y, view) + margin + self.beta * moved

        return per_example(_mean_over_views(boosted, perturbed))


class Consistency:
    """Consistency of noisy predictions, for smoothing (Jeong and Shin 2020).

    mean loss + weight * mean KL(mean prediction || each) + entropy * entropy of the
    mean prediction, over the views: use it with `LatentNoise(..., views=2)`.

    Args:
        weight: of the divergence.
        entropy: weight of the entropy.

    Raises:
        ValueError: if a weight is not positive.
    """

    needs_clean = False
    from_predictions = False

    def __init__(self, weight: float = 10.0, entropy: float = 0.5):
        self.weight = checks.positive("weight", weight)
        self.entropy = checks.positive("entropy", entropy)

    def __call__(
        self, loss: Loss, y: tf.Tensor, clean: tf.Tensor | None, perturbed: tf.Tensor
    ) -> tf.Tensor:
        """Losses of a batch, (batch,).

        Raises:
            ValueError: if the perturbation gives a single view.
        """
        if perturbed.shape[0] < 2:
            raise ValueError(
                "Consistency compares views: use a perturbation that gives several, "
                "such as `LatentNoise(..., views=2)`. Received: 1 view"
            )
        logs = tf.nn.log_softmax(perturbed)
        mean = tf.reduce_mean(tf.exp(logs), 0)
        log_mean = tf.math.log(tf.maximum(mean, 1e-30))

        def inconsistent(view: tf.Tensor) -> tf.Tensor:
            moved = _divergence(mean, log_mean, tf.nn.log_softmax(view))
            return loss(y, view) + self.weight * moved

        spread = -tf.reduce_sum(mean * log_mean, -1)
        losses = _mean_over_views(inconsistent, perturbed) + self.entropy * spread
        return per_example(losses)

"""The metrics of a RobustClassifier: loss, and clean and robust of each."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from lps_tf._internal.checks import VOID
from lps_tf.robustness.objectives import per_example

#: Logits (batch, ..., classes) under "clean" and "robust": of each sample.
Logits = dict[str, list[tf.Tensor]]

#: Losses and metrics whose labels are one-hot, losses of one logit, and metrics of one
#: probability.
_ONE_HOT = (
    keras.losses.CategoricalCrossentropy,
    keras.losses.CategoricalFocalCrossentropy,
    keras.losses.CategoricalHinge,
    keras.metrics.CategoricalAccuracy,
    keras.metrics.CategoricalCrossentropy,
    keras.metrics.TopKCategoricalAccuracy,
    keras.metrics.OneHotIoU,
    keras.metrics.OneHotMeanIoU,
)
_OF_ONE_LOGIT = (
    keras.losses.BinaryCrossentropy,
    keras.losses.BinaryFocalCrossentropy,
)
_OF_ONE_PROBABILITY = (
    keras.metrics.BinaryAccuracy,
    keras.metrics.BinaryCrossentropy,
    keras.metrics.BinaryIoU,
    keras.metrics.AUC,
    keras.metrics.Precision,
    keras.metrics.Recall,
)


def target_for(consumer: Any, y: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Labels in the form that a loss or metric takes: the class, or one-hot."""
    if isinstance(consumer, _ONE_HOT):
        return tf.one_hot(y, num_classes)
    return y


def require_loss_of_logits(loss: Any) -> None:
    """Raises ValueError unless a loss is one of Keras, of logits, without void."""
    if not isinstance(loss, keras.losses.Loss) or not loss.get_config().get(
        "from_logits", True
    ):
        raise ValueError(
            "`loss` must be a keras.losses.Loss of logits, for instance "
            "`keras.losses.SparseCategoricalCrossentropy(from_logits=True)`. "
            f"Received: loss={loss}"
        )
    if getattr(loss, "ignore_class", None) is not None:
        raise ValueError(
            "Void pixels are a matter of the data: pass `ignore_class` to the "
            "RobustClassifier, not to its loss. "
            f"Received: a loss with ignore_class={loss.ignore_class}"
        )


def loss_of_predictions(
    loss: keras.losses.Loss, y: tf.Tensor, logits: tf.Tensor
) -> tf.Tensor:
    """A Keras loss of each prediction, (batch, ...).

    Args:
        loss: Loss of logits.
        y: Labels, (batch, ...), at least 0.
        logits: Logits, (batch, ..., classes).

    Raises:
        ValueError: If a loss of one logit meets more than two classes.
    """
    if not isinstance(loss, _OF_ONE_LOGIT):
        return loss.call(target_for(loss, y, logits.shape[-1]), logits)
    if logits.shape[-1] != 2:
        raise ValueError(
            f"{type(loss).__name__} is a loss of two classes. "
            f"Received: logits of {logits.shape[-1]}"
        )
    # The logit of class 1 against class 0, with the axis that these losses average.
    return loss.call(y[..., None], logits[..., 1:] - logits[..., :1])


class Logs:
    """Metrics by their prefix, and what a batch adds to them.

    A plain object, so that `compile` may replace it on a model that is built.

    Args:
        metrics: Metrics as `compile` was given them.
        num_classes: Number of classes, None if it is not known yet.
    """

    def __init__(
        self, metrics: Sequence[str | keras.metrics.Metric], num_classes: int | None
    ):
        self.chosen = list(metrics)
        self.loss = keras.metrics.Mean(name="loss")
        self.losses = {
            prefix: keras.metrics.Mean(name=f"{prefix}_loss")
            for prefix in ("clean", "robust")
        }
        self.metrics = {
            prefix: [_copy(metric, prefix, num_classes) for metric in metrics]
            for prefix in self.losses
        }

    def all(self) -> list[keras.metrics.Metric]:
        """Every metric."""
        own = [metric for metrics in self.metrics.values() for metric in metrics]
        return [self.loss, *self.losses.values(), *own]

    def results(self) -> dict:
        """Results by name, of what was computed since the last reset."""
        shown = [self.loss]
        for prefix, loss in self.losses.items():
            if float(tf.convert_to_tensor(loss.count)):
                shown += [loss, *self.metrics[prefix]]
        return {metric.name: metric.result() for metric in shown}

    def update(
        self,
        y: tf.Tensor,
        weight: tf.Tensor,
        loss: tf.Tensor,
        logits: Logits,
        losses_of: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    ) -> dict:
        """Takes in a batch's results; returns the logs of what was computed.

        Args:
            y: Labels, (batch, ...); -1 where void.
            weight: Weights of the predictions; see `TrainingObjective`.
            loss: Losses that were minimised, (batch,).
            logits: Logits of what was computed.
            losses_of: Loss of each prediction by labels and logits.
        """
        self.loss.update_state(loss)
        updated = [self.loss]
        valid = tf.cast(y != VOID, tf.int32)  # Keras's IoU counts in integers
        label = tf.maximum(y, 0)  # void pixels have no weight
        for prefix, samples in logits.items():
            for sample in samples:
                losses = per_example(losses_of(y, sample), weight)
                self.losses[prefix].update_state(losses)
                for metric in self.metrics[prefix]:
                    target = target_for(metric, label, sample.shape[-1])
                    metric.update_state(target, sample, sample_weight=valid)
            updated += [self.losses[prefix], *self.metrics[prefix]]
        return {metric.name: metric.result() for metric in updated}


def _copy(
    metric: str | keras.metrics.Metric, prefix: str, num_classes: int | None
) -> keras.metrics.Metric:
    if metric in ("accuracy", "acc"):
        metric = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    elif metric == "mean_iou":
        if num_classes is None:
            raise ValueError(
                'The metric "mean_iou" has to know the number of classes: build the '
                "classifier first, or pass keras.metrics.MeanIoU(num_classes, "
                "sparse_y_pred=False). Received: a classifier that is not built"
            )
        metric = keras.metrics.MeanIoU(
            num_classes, sparse_y_pred=False, name="mean_iou"
        )
    metric = keras.metrics.get(metric)
    if not isinstance(metric, keras.metrics.Metric) or isinstance(
        metric, _OF_ONE_PROBABILITY
    ):
        raise ValueError(
            '`metrics` must be "accuracy", "mean_iou" or keras.metrics.Metric objects '
            "of labels and logits (batch, ..., classes), which a classifier of one "
            f"logit has too. Received: {metric}"
        )
    config = metric.get_config()
    return type(metric).from_config({**config, "name": f"{prefix}_{metric.name}"})

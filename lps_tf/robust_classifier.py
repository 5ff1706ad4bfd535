"""RobustClassifier: train and evaluate a classifier under a perturbation."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from lps_tf import checks
from lps_tf.checked_model import CheckedModel

#: (classifier, x, y) -> perturbed x. See `lps_tf.perturbations`.
Perturbation = Callable[[keras.layers.Layer, tf.Tensor, tf.Tensor], tf.Tensor]


@keras.saving.register_keras_serializable("lps_tf")
class RobustClassifier(CheckedModel):
    """A classifier or segmenter, trained on what a perturbation makes of its images.

    If the perturbation is `adversarial` (an attack), the loss is the mean over
    examples of max(loss(x), loss(x')), as in the paper's section 5; otherwise it is
    the loss on x'. Without a perturbation it is the ordinary loss on x.

    Logs and `evaluate` give clean_loss, robust_loss and each metric with those two
    prefixes. Training on augmented images computes no clean predictions, so its
    training logs have only the robust ones.

    The perturbation, with the perturbation set inside, is frozen and not part of the
    model: it is neither trained, nor in its checkpoints, nor saved. A reloaded model
    predicts; set `perturbation` to train or attack it again.

    Example:
        robust = RobustClassifier(classifier, LatentPGD(pset, steps=7))
        robust.compile(keras.optimizers.Adam(1e-3), metrics=["accuracy"])
        robust.fit(data.train, validation_data=data.val, epochs=10)

    Args:
        classifier: any Keras model from images to logits: (batch, classes), or
            (batch, height, width, classes) for a segmenter.
        perturbation: a callable (classifier, x, y) -> x'.
        **kwargs: of `keras.Model`.
    """

    def __init__(
        self,
        classifier: keras.Model,
        perturbation: Perturbation | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.classifier = classifier
        self.perturbation = perturbation
        self._classes: int | None = None
        self._logs: _Logs | None = None

    def build(self, input_shape: tuple) -> None:
        """Builds the classifier for images (batch, height, width, channels)."""
        with tf.init_scope():
            logits = self.classifier(tf.zeros((1, *input_shape[1:])))
        self._classes = int(logits.shape[-1])
        self.built = True

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The classifier's logits."""
        return self.classifier(x, training=training)

    def compile(
        self,
        optimizer: Any = "adam",
        loss: keras.losses.Loss | None = None,
        metrics: Sequence[str | keras.metrics.Metric] = ("accuracy",),
        **kwargs: Any,
    ) -> None:
        """Prepares `fit` and `evaluate`.

        Args:
            optimizer: a Keras optimizer.
            loss: a Keras loss of labels and logits, taken per example; default the
                sparse categorical cross-entropy.
            metrics: of labels and logits; each is tracked on clean and on perturbed
                images. "accuracy" is the fraction of right labels (or pixels).
            **kwargs: of `keras.Model.compile`.

        Raises:
            ValueError: if the loss does not take logits.
        """
        if loss is None:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        if not isinstance(loss, keras.losses.Loss) or not loss.get_config().get(
            "from_logits", True
        ):
            raise ValueError(
                "`loss` must be a keras.losses.Loss of logits, for instance "
                "`keras.losses.SparseCategoricalCrossentropy(from_logits=True)`. "
                f"Received: loss={loss}"
            )
        # Attacks compile their own steps with XLA, and they are most of the work.
        kwargs.setdefault("jit_compile", False)
        super().compile(optimizer=optimizer, loss=loss, metrics=list(metrics), **kwargs)
        self._example_loss = loss
        self._logs = _Logs(metrics)

    @property
    def metrics(self) -> list:
        """Every metric: loss, clean and robust."""
        return self._logs.all() if self._logs else []

    def losses_of(self, y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """The loss of each example, (batch,); of a segmenter, the mean over pixels."""
        losses = self._example_loss.call(y, tf.cast(logits, tf.float32))
        return tf.reduce_mean(losses, list(range(1, losses.shape.rank)))

    def _forward(
        self, x: tf.Tensor, x_perturbed: tf.Tensor | None, y: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, dict]:
        """The losses to minimise, and what came of clean and perturbed images."""
        results = {}
        adversarial = getattr(self.perturbation, "adversarial", False)
        if x_perturbed is None or adversarial or not training:
            logits = self.classifier(x, training=training)
            losses = results["clean"] = (self.losses_of(y, logits), logits)
        if x_perturbed is not None:
            logits = self.classifier(x_perturbed, training=training)
            losses = results["robust"] = (self.losses_of(y, logits), logits)
        loss = losses[0]
        if adversarial:
            loss = tf.maximum(results["clean"][0], results["robust"][0])
        return loss, results

    def _perturbed(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor | None:
        if self.perturbation is None:
            return None
        return tf.stop_gradient(self.perturbation(self.classifier, x, y))

    def train_step(self, data: tuple) -> dict:
        """Perturbs outside of the tape, then one step of the optimizer."""
        x, y = data
        x_perturbed = self._perturbed(x, y)
        with tf.GradientTape() as tape:
            losses, results = self._forward(x, x_perturbed, y, training=True)
            loss = tf.reduce_mean(losses)
            if self.classifier.losses:
                loss += tf.add_n(self.classifier.losses)
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(
            zip(tape.gradient(scaled, variables), variables, strict=True)
        )
        return self._logs.update(y, losses, results)

    def test_step(self, data: tuple) -> dict:
        """Clean and perturbed predictions of a batch."""
        x, y = data
        losses, results = self._forward(x, self._perturbed(x, y), y, training=False)
        return self._logs.update(y, losses, results)

    def checked_data(self, x: Any, y: Any) -> Any:
        """Images with integer labels, checked; `fit` and `evaluate` go through it."""
        return checks.labelled_dataset(x, y, self._classes)

    def get_compile_config(self) -> dict:
        """The arguments of `compile`, so that a saved model reloads compiled."""
        return super().get_compile_config()

    def get_config(self) -> dict:
        """The classifier; the perturbation is not saved."""
        classifier = keras.saving.serialize_keras_object(self.classifier)
        return {"classifier": classifier, "name": self.name}

    @classmethod
    def from_config(cls, config: dict) -> "RobustClassifier":
        """The inverse of `get_config`."""
        classifier = keras.saving.deserialize_keras_object(config["classifier"])
        return cls(classifier, name=config["name"])


class _Logs:
    """The metrics of a RobustClassifier: loss, and clean and robust of each.

    A plain object, so that `compile` may replace it on a model that is built.
    """

    def __init__(self, metrics: Sequence[str | keras.metrics.Metric]):
        self.loss = keras.metrics.Mean(name="loss")
        self.losses = {
            prefix: keras.metrics.Mean(name=f"{prefix}_loss")
            for prefix in ("clean", "robust")
        }
        self.metrics = {
            prefix: [_copy(metric, prefix) for metric in metrics]
            for prefix in self.losses
        }

    def all(self) -> list[keras.metrics.Metric]:
        return [self.loss, *self.losses.values(), *sum(self.metrics.values(), [])]

    def update(self, y: tf.Tensor, loss: tf.Tensor, results: dict) -> dict:
        """Takes in a batch's results; returns the logs of what was computed."""
        self.loss.update_state(loss)
        updated = [self.loss]
        for prefix, (losses, logits) in results.items():
            self.losses[prefix].update_state(losses)
            for metric in self.metrics[prefix]:
                metric.update_state(y, logits)
            updated += [self.losses[prefix], *self.metrics[prefix]]
        return {metric.name: metric.result() for metric in updated}


def _copy(metric: str | keras.metrics.Metric, prefix: str) -> keras.metrics.Metric:
    if metric in ("accuracy", "acc"):
        metric = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    metric = keras.metrics.get(metric)
    if not isinstance(metric, keras.metrics.Metric):
        raise ValueError(
            '`metrics` must be "accuracy" or keras.metrics.Metric objects. '
            f"Received: {metric}"
        )
    config = metric.get_config()
    return type(metric).from_config({**config, "name": f"{prefix}_{metric.name}"})

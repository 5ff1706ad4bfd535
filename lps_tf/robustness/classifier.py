"""RobustClassifier: train and evaluate a classifier under a perturbation."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf.robustness.objectives import PerturbedLoss, WorstLoss, per_example
from lps_tf.sets import latent
from lps_tf.training import replicas
from lps_tf.training.checked_model import CheckedModel

#: (classifier, x, y) -> perturbed x. See `lps_tf.perturbations`.
Perturbation = Callable[[keras.layers.Layer, tf.Tensor, tf.Tensor], tf.Tensor]
#: (loss, y, clean logits, perturbed logits) -> losses. See `lps_tf.objectives`.
Objective = Callable[..., tf.Tensor]


@keras.saving.register_keras_serializable("lps_tf")
class RobustClassifier(CheckedModel):
    """A classifier or segmenter, trained on what a perturbation makes of its images.

    What is minimised is an objective of `lps_tf.objectives`. By default, if the
    perturbation is `adversarial` (an attack), it is the mean over examples of
    max(loss(x), loss(x')), as in the paper's section 5; otherwise the loss on x'.
    Without a perturbation it is the ordinary loss on x.

    Logs and `evaluate` give clean_loss, robust_loss and each metric with those two
    prefixes. Objectives that need no clean predictions, such as the default on
    augmented images, have only the robust ones in their training logs.

    The perturbation, with the perturbation set inside, is frozen and not part of the
    model: it is neither trained, nor in its checkpoints, nor saved. A reloaded model
    predicts; set `perturbation` to train or attack it again. What *is* saved is how
    many batches were perturbed: a perturbation that takes a `seed` draws on from
    there when an interrupted training is resumed. `evaluate` always draws the same.

    Example:
        robust = RobustClassifier(classifier, LatentPGD(pset, steps=7))
        robust.compile(keras.optimizers.Adam(1e-3), metrics=["accuracy"])
        robust.fit(data.train, validation_data=data.val, epochs=10)

    Args:
        classifier: any Keras model from images to logits: (batch, classes), or
            (batch, height, width, classes) for a segmenter.
        perturbation: a callable (classifier, x, y) -> x', of the shape of x or with
            an axis of views in front of it.
        objective: what to minimise, for instance `lps_tf.objectives.Trades()`.
        warmup_epochs: epochs at the start of training without perturbation.
        clean_fraction: part of each training batch, its first images, that is left
            as it is; it costs no attack either.
        **kwargs: of `keras.Model`.

    Raises:
        ValueError: for a negative number of epochs or a fraction outside of [0, 1),
            or an objective without a perturbation.
    """

    def __init__(
        self,
        classifier: keras.Model,
        perturbation: Perturbation | None = None,
        objective: Objective | None = None,
        *,
        warmup_epochs: int = 0,
        clean_fraction: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if objective is not None and perturbation is None:
            raise ValueError(
                "An `objective` compares images with their perturbations: give a "
                f"`perturbation` too. Received: objective={objective}"
            )
        self.classifier = classifier
        self.perturbation = perturbation
        self.objective = objective
        self.warmup_epochs = checks.count("warmup_epochs", warmup_epochs, least=0)
        if not 0 <= clean_fraction < 1:
            raise ValueError(
                "`clean_fraction` must be at least 0 and less than 1. "
                f"Received: clean_fraction={clean_fraction}"
            )
        self.clean_fraction = clean_fraction
        # Batches perturbed in training, and in the present evaluation. A weight and
        # not a keras SeedGenerator, whose state is not saved.
        fixed = {
            "dtype": "int32",
            "initializer": "zeros",
            "trainable": False,
            "autocast": False,
            "aggregation": "only_first_replica",
        }
        self._draws = self.add_weight(name="draws", shape=(2,), **fixed)
        self._epoch = self.add_weight(name="epoch", shape=(), **fixed)
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
                images. "accuracy" is the fraction of right labels (or pixels),
                "mean_iou" the mean over classes of intersection over union.
            **kwargs: of `keras.Model.compile`. `jit_compile=True` has XLA compile loss
                and gradient, which pays in long training; attacks always are.

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
        kwargs.setdefault("jit_compile", False)
        # Keras is not told of loss and metrics: under a distribution strategy it would
        # make some of its own, on clean images, and it knows no "mean_iou".
        super().compile(optimizer=optimizer, **kwargs)
        # Attacks compile their own loops; around one, Keras's compiled step is slower.
        self._gradients = self._gradients_of
        if self.jit_compile:
            self._gradients = tf.function(
                self._gradients_of, jit_compile=True, autograph=False
            )
        self.jit_compile = False
        self._example_loss = loss
        self._logs = _Logs(metrics, self._number_of_classes())

    def _number_of_classes(self) -> int | None:
        if self._classes is None and self.classifier.built:
            self._classes = self.classifier.output_shape[-1]
        return self._classes

    @property
    def metrics(self) -> list:
        """Every metric: loss, clean and robust."""
        return self._logs.all() if self._logs else []

    def get_metrics_result(self) -> dict:
        """Results of the metrics of which something was computed."""
        return self._logs.results()

    def losses_of(self, y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """The loss of each prediction, (batch,) or (batch, height, width)."""
        return self._example_loss.call(y, tf.cast(logits, tf.float32))

    def _chosen_objective(self) -> Objective:
        if self.objective is not None:
            return self.objective
        adversarial = getattr(self.perturbation, "adversarial", False)
        return WorstLoss() if adversarial else PerturbedLoss()

    # Perturbing, outside of the gradient tape.

    def _perturbed(
        self, x: tf.Tensor, y: tf.Tensor, training: bool
    ) -> tf.Tensor | None:
        """What becomes of a batch, (views, batch, ...); None without a perturbation."""
        if self.perturbation is None:
            return None
        seed = self._next_key(training)
        if not training:
            return self._views(x, y, seed)
        clean = tf.cast(
            self.clean_fraction * tf.cast(tf.shape(x)[0], tf.float32), "int32"
        )
        views = getattr(self.perturbation, "views", 1)
        unperturbed = tf.stack([x] * views)

        def perturb() -> tf.Tensor:
            if not self.clean_fraction:
                return self._views(x, y, seed)
            perturbed = self._views(x[clean:], y[clean:], seed)
            return tf.concat([unperturbed[:, :clean], perturbed], 1)

        if not self.warmup_epochs:
            return perturb()
        warm = self._epoch.value < self.warmup_epochs
        return tf.cond(warm, lambda: unperturbed, perturb)

    def _views(self, x: tf.Tensor, y: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if self._chosen_objective().from_predictions:
            logits = self.classifier(x, training=False)
            y = tf.nn.softmax(tf.cast(logits, tf.float32))
        takes_seed = "seed" in inspect.signature(self.perturbation).parameters
        keywords = {"seed": seed} if takes_seed else {}
        views = tf.stop_gradient(self.perturbation(self.classifier, x, y, **keywords))
        return views if views.shape.rank > x.shape.rank else views[None]

    def _next_key(self, training: bool) -> tf.Tensor:
        place = 0 if training else 1
        self._draws.assign_add(tf.one_hot(place, 2, dtype=tf.int32))
        return latent.replica_key(tf.stack([self._draws.value[place], place]))

    # Steps.

    def _forward(
        self, x: tf.Tensor, views: tf.Tensor | None, y: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, dict[str, list[tf.Tensor]]]:
        """The losses to minimise, (batch,), and logits: clean, and of each view."""
        objective, logits, clean = self._chosen_objective(), {}, None
        if views is None or objective.needs_clean or not training:
            clean = tf.cast(self.classifier(x, training=training), tf.float32)
            logits["clean"] = [clean]
        if views is None:
            return per_example(self.losses_of(y, clean)), logits
        shape = tf.shape(views)
        flat = tf.reshape(views, tf.concat([[-1], shape[2:]], 0))
        flat = tf.ensure_shape(flat, (None, *x.shape[1:]))
        flat = tf.cast(self.classifier(flat, training=training), tf.float32)
        perturbed = tf.reshape(flat, tf.concat([shape[:2], tf.shape(flat)[1:]], 0))
        perturbed = tf.ensure_shape(perturbed, (*views.shape[:2], *flat.shape[1:]))
        logits["robust"] = tf.unstack(perturbed)
        return objective(self.losses_of, y, clean, perturbed), logits

    def _gradients_of(
        self, x: tf.Tensor, views: tf.Tensor | None, y: tf.Tensor, examples: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, list[tf.Tensor]], list[tf.Tensor]]:
        """As `_forward`, and the gradient of the mean over all replicas' examples."""
        with tf.GradientTape() as tape:
            losses, logits = self._forward(x, views, y, training=True)
            loss = tf.reduce_sum(losses) / examples
            if self.classifier.losses:
                loss += tf.add_n(self.classifier.losses) / replicas.count()
            scaled = self.optimizer.scale_loss(loss)
        return losses, logits, tape.gradient(scaled, self.trainable_variables)

    def train_step(self, data: tuple) -> dict:
        """Perturbs outside of the tape, then one step of the optimizer."""
        x, y = data
        views = self._perturbed(x, y, training=True)
        # The optimizer adds up the replicas, which may differ in size.
        examples = replicas.total(tf.cast(tf.shape(x)[0], tf.float32))
        losses, logits, gradients = self._gradients(x, views, y, examples)
        self.optimizer.apply_gradients(
            zip(gradients, self.trainable_variables, strict=True)
        )
        return self._logs.update(y, losses, logits, self.losses_of)

    def test_step(self, data: tuple) -> dict:
        """Clean and perturbed predictions of a batch."""
        x, y = data
        views = self._perturbed(x, y, training=False)
        losses, logits = self._forward(x, views, y, training=False)
        return self._logs.update(y, losses, logits, self.losses_of)

    def fit(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Trains on images and labels, as `keras.Model.fit`.

        Args:
            x: a tf.data.Dataset of batches (x, y), or the array x.
            y: the labels if x is an array.
            **kwargs: of `keras.Model.fit`.

        Returns:
            Keras's History.

        Raises:
            ValueError: if a batch is not float images in [0, 1] with integer labels
                of the classifier's classes, or there is none.
        """
        return super().fit(x, y, **kwargs)

    def begin_epoch(self, epoch: int) -> None:
        """Notes the epoch: a variable, so nothing is retraced."""
        self._epoch.assign(epoch)

    def begin_evaluation(self) -> None:
        """Forgets the draws of other evaluations: all of them are to be alike."""
        self._draws.assign(self._draws.value * [1, 0])

    def checked_data(self, x: Any, y: Any) -> Any:
        """Images with integer labels, checked; `fit` and `evaluate` go through it."""
        return checks.labelled_dataset(x, y, self._classes)

    def get_compile_config(self) -> dict:
        """The arguments of `compile`, so that a saved model reloads compiled."""
        config = super().get_compile_config()
        if not config:  # never compiled
            return config
        own = {"loss": self._example_loss, "metrics": self._logs.chosen}
        return {**config, **keras.saving.serialize_keras_object(own)}

    def get_config(self) -> dict:
        """The classifier; how it was trained is not saved."""
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
        return [self.loss, *self.losses.values(), *sum(self.metrics.values(), [])]

    def results(self) -> dict:
        shown = [self.loss]
        for prefix, loss in self.losses.items():
            if float(tf.convert_to_tensor(loss.count)):
                shown += [loss, *self.metrics[prefix]]
        return {metric.name: metric.result() for metric in shown}

    def update(
        self,
        y: tf.Tensor,
        loss: tf.Tensor,
        logits: dict[str, list[tf.Tensor]],
        losses_of: Callable,
    ) -> dict:
        """Takes in a batch's results; returns the logs of what was computed."""
        self.loss.update_state(loss)
        updated = [self.loss]
        for prefix, views in logits.items():
            for view in views:
                self.losses[prefix].update_state(per_example(losses_of(y, view)))
                for metric in self.metrics[prefix]:
                    metric.update_state(y, view)
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
    if not isinstance(metric, keras.metrics.Metric):
        raise ValueError(
            '`metrics` must be "accuracy", "mean_iou" or keras.metrics.Metric objects. '
            f"Received: {metric}"
        )
    config = metric.get_config()
    return type(metric).from_config({**config, "name": f"{prefix}_{metric.name}"})

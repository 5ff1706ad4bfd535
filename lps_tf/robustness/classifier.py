"""RobustClassifier: train and evaluate a classifier under a perturbation."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from lps_tf._internal import checks, outputs, presets
from lps_tf._internal.fixed import Fixed, TracedAgain
from lps_tf.robustness.metrics import (
    Logits,
    Logs,
    loss_of_predictions,
    require_loss_of_logits,
)
from lps_tf.robustness.objectives import (
    PerturbedLoss,
    Predictions,
    TrainingObjective,
    WorstLoss,
    class_weights,
    expanded,
    per_example,
    prediction_weights,
)
from lps_tf.sets import latent
from lps_tf.training import replicas
from lps_tf.training.checked_model import CheckedModel, weights_of
from lps_tf.training.perturbation import Function, Perturbation, as_perturbation


def _perturbation_or_none(value: Any) -> Perturbation | None:
    return None if value is None else as_perturbation(value)


def _fraction(value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError(
            "`clean_fraction` must be at least 0 and less than 1. "
            f"Received: clean_fraction={value}"
        )
    return float(value)


@keras.saving.register_keras_serializable("lps_tf")
class RobustClassifier(Fixed, CheckedModel):
    """A classifier or segmenter, trained on what a perturbation makes of its images.

    What is minimised is an objective of `lps_tf.objectives`. By default, if the
    perturbation is `adversarial` (an attack), it is the mean over examples of
    max(loss(x), loss(x')), as in the paper's section 5; otherwise the loss on x'.
    Without a perturbation it is the ordinary loss on x.

    Logs and `evaluate` give clean_loss, robust_loss and each metric with those two
    prefixes. Objectives that need no clean predictions, such as the default on
    augmented images, have only the robust ones in their training logs.

    `perturbation`, `objective`, `warmup_epochs` and `clean_fraction` may be set at any
    time, and `fit` and `evaluate` go on with the new ones; what they did before is
    traced again. The radius of an attack, and the sigma of noise, change without that:
    set them, or let a `RadiusSchedule` do so during training.

    The perturbation, with the perturbation set inside, is frozen and not part of the
    model: it is neither trained, nor in its checkpoints, nor saved. A reloaded model
    predicts; set `perturbation` to train or attack it again. What *is* saved is how
    many batches were perturbed: random numbers go on from there when an interrupted
    training is resumed. `evaluate` always uses the same.

    Images are floats in [0, 1]. Labels are integers of any type (batch,), or maps of
    them (batch, height, width) for a segmenter, one-hot labels, or labels with a last
    axis of 1. A classifier of one logit z chooses between class 0 and 1, as if its
    logits were [0, z].

    Example:
        robust = RobustClassifier(classifier, LatentPGD(pset, steps=7))
        robust.compile(keras.optimizers.Adam(1e-3), metrics=["accuracy"])
        robust.fit(data.train, validation_data=data.val, epochs=10)

    Args:
        classifier: Any Keras model from images to logits: (batch, classes), or
            (batch, height, width, classes) for a segmenter. A softmax or sigmoid at its
            end does no harm: losses take what it was given.
        perturbation: Perturbation to train and evaluate with, or a plain function
            (classifier, x, y) -> x'.
        objective: What to minimise, for instance `lps_tf.objectives.Trades()`.
        ignore_class: Label of void pixels, such as 255. They count in no loss, no
            metric and no attack's success. None if there are none.
        warmup_epochs: Epochs at the start of training without perturbation.
        clean_fraction: Part of each training batch, its first images, that is left
            as it is; it costs no attack either.
        **kwargs: Arguments of `keras.Model`.

    Raises:
        ValueError: If the number of epochs is negative, the fraction is outside of
            [0, 1), there is an objective without a perturbation, or the classifier is
            no model.
    """

    FIXED = ("classifier", "ignore_class")

    #: What is done to the images, None for nothing.
    perturbation = TracedAgain(_perturbation_or_none)
    #: What is minimised, None for the default.
    objective = TracedAgain(lambda value: value)
    #: Epochs at the start of training without perturbation.
    warmup_epochs = TracedAgain(lambda v: checks.count("warmup_epochs", v, least=0))
    #: Part of each training batch that is not perturbed.
    clean_fraction = TracedAgain(_fraction)

    def __init__(
        self,
        classifier: keras.Model,
        perturbation: Perturbation | Function | None = None,
        objective: TrainingObjective | None = None,
        *,
        ignore_class: int | None = None,
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
        if not isinstance(classifier, keras.layers.Layer):
            raise ValueError(
                "`classifier` must be a Keras model from images to logits. "
                f"Received: classifier={classifier!r}"
            )
        self.classifier = classifier
        self.ignore_class = ignore_class
        self.perturbation = perturbation
        self.objective = objective
        self.warmup_epochs = warmup_epochs
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
        self._logits_shape: tuple[Any, ...] = ()
        self._logs = Logs([], None)

    def trace_again(self) -> None:
        """Has the next step traced again, because something in it has changed."""
        if not self.compiled:
            return
        self._gradients = self._traced_gradients()
        # Inside of `fit` Keras has fetched them already, and looks them up each step.
        if self.train_function is not None:
            self.make_train_function(force=True)
        if self.test_function is not None:
            self.make_test_function(force=True)

    # Keras's model.

    def build(self, input_shape: tuple) -> None:
        """Builds the classifier for images (batch, height, width, channels)."""
        with tf.init_scope():
            logits = outputs.logits(self.classifier, tf.zeros((1, *input_shape[1:])))
        # Segmenters take images of any size that the classifier takes.
        inner = [None] * (logits.shape.rank - 2)
        self._logits_shape = (None, *inner, int(logits.shape[-1]))
        self._image_shape = tuple(input_shape[1:])
        self._any_size = bool(inner) or None in outputs.static_shape(self.classifier)
        self.built = True
        if self.compiled:  # only now can be told what XLA makes of the classifier
            self._gradients = self._traced_gradients()

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The classifier's output."""
        return self.classifier(x, training=training)

    def compile(
        self,
        optimizer: Any = "adam",
        loss: keras.losses.Loss | None = None,
        metrics: str | keras.metrics.Metric | Sequence | None = ("accuracy",),
        **kwargs: Any,
    ) -> None:
        """Prepares `fit` and `evaluate`.

        Args:
            optimizer: Keras optimizer.
            loss: Keras loss of labels and logits, taken per example; default the
                sparse categorical cross-entropy. Losses of one-hot labels, such as
                `CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)`, get
                them.
            metrics: Metrics of labels and logits, or one; each is tracked on clean and
                on perturbed images. "accuracy" is the fraction of correct predictions
                (of pixels in a segmenter), "mean_iou" the mean over classes of
                intersection over union. Weights of examples do not count in them.
            **kwargs: Arguments of `keras.Model.compile`. `jit_compile=True` has XLA
                compile loss and gradient, which pays in long training; attacks always
                are.

        Raises:
            ValueError: If the loss does not take logits, or a metric neither.
        """
        if loss is None:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        require_loss_of_logits(loss)
        if kwargs.get("weighted_metrics") is not None:
            raise ValueError(
                "`weighted_metrics` are not kept: weights count in losses alone. Leave "
                f"it out. Received: weighted_metrics={kwargs['weighted_metrics']}"
            )
        kwargs.setdefault("jit_compile", False)
        # Keras is not told of loss and metrics: under a distribution strategy it would
        # make some of its own, on clean images, and it knows no "mean_iou".
        super().compile(optimizer=optimizer, **kwargs)
        # Attacks compile their own loops; around one, Keras's compiled step is slower.
        self._jit_choice: bool = kwargs["jit_compile"] is True
        self.jit_compile = False
        self._example_loss = loss
        metrics = [] if metrics is None else metrics
        metrics = list(metrics) if isinstance(metrics, list | tuple) else [metrics]
        self._logs = Logs(metrics, self._number_of_classes())
        self._gradients = self._traced_gradients()

    def _traced_gradients(self) -> Callable:
        """`_gradients_of`, compiled by XLA if that was asked for and can be."""
        known = self.built and None not in self._image_shape
        can = not known or outputs.compiles(self.classifier, self._image_shape)
        if not (self._jit_choice and can):
            return self._gradients_of
        return tf.function(self._gradients_of, jit_compile=True, autograph=False)

    def _number_of_classes(self) -> int | None:
        if not self._logits_shape and self.classifier.built:
            shape = outputs.static_shape(self.classifier)
            if None not in shape:
                self.build((None, *shape))
        return self._logits_shape[-1] if self._logits_shape else None

    @property
    def metrics(self) -> list:
        """Every metric: loss, clean and robust."""
        return self._logs.all() if self.compiled else []

    def get_metrics_result(self) -> dict:
        """Results of the metrics of which something was computed."""
        return self._logs.results()

    def losses_of(self, y: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """The loss of each prediction, (batch,) or (batch, height, width)."""
        return loss_of_predictions(self._example_loss, tf.maximum(y, 0), logits)

    def _chosen_objective(self) -> TrainingObjective:
        if self.objective is not None:
            return self.objective
        adversarial = self.perturbation is not None and self.perturbation.adversarial
        return WorstLoss() if adversarial else PerturbedLoss()

    # Perturbing, outside of the gradient tape.

    def _perturbed(
        self, x: tf.Tensor, y: tf.Tensor, training: bool
    ) -> tf.Tensor | None:
        """Perturbed images, (num_samples, batch, ...); None without a perturbation."""
        if self.perturbation is None:
            return None
        key = self._next_key(training)
        if not training:
            return self._samples(x, y, key)
        clean = tf.cast(
            self.clean_fraction * tf.cast(tf.shape(x)[0], tf.float32), "int32"
        )
        unperturbed = tf.stack([x] * self.perturbation.num_samples)

        def perturb() -> tf.Tensor:
            if not self.clean_fraction:
                return self._samples(x, y, key)
            perturbed = self._samples(x[clean:], y[clean:], key)
            return tf.concat([unperturbed[:, :clean], perturbed], 1)

        if not self.warmup_epochs:
            return perturb()
        warm = self._epoch.value < self.warmup_epochs
        return tf.cond(warm, lambda: unperturbed, perturb)

    def _samples(self, x: tf.Tensor, y: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        if self._chosen_objective().from_predictions:
            probabilities = tf.nn.softmax(outputs.logits(self.classifier, x))
            # Zeros where void: no prediction is to be moved away from there.
            labelled = tf.cast(y != checks.VOID, tf.float32)[..., None]
            y = probabilities * labelled
        assert self.perturbation is not None
        samples = tf.stop_gradient(self.perturbation(self.classifier, x, y, key))
        samples = tf.cast(samples, tf.float32)
        return samples if samples.shape.rank > x.shape.rank else samples[None]

    def _next_key(self, training: bool) -> tf.Tensor:
        place = 0 if training else 1
        self._draws.assign_add(tf.one_hot(place, 2, dtype=tf.int32))
        return latent.replica_key(tf.stack([self._draws.value[place], place]))

    # Steps.

    def _forward(
        self,
        x: tf.Tensor,
        samples: tf.Tensor | None,
        y: tf.Tensor,
        weight: tf.Tensor,
        training: bool,
    ) -> tuple[tf.Tensor, Logits]:
        """The losses to minimise, (batch,), and logits: clean, and of each sample."""
        objective, clean = self._chosen_objective(), None
        logits: Logits = {}
        if samples is None or objective.needs_clean or not training:
            clean = outputs.logits(self.classifier, x, training)
            logits["clean"] = [clean]
        if samples is None:
            return per_example(self.losses_of(y, clean), weight), logits
        # (num_samples, batch, ...) -> (num_samples * batch, ...) and back.
        shape = tf.shape(samples)
        flat = tf.reshape(samples, tf.concat([[-1], shape[2:]], 0))
        flat = tf.ensure_shape(flat, (None, *x.shape[1:]))
        flat = outputs.logits(self.classifier, flat, training)
        perturbed = tf.reshape(flat, tf.concat([shape[:2], tf.shape(flat)[1:]], 0))
        perturbed = tf.ensure_shape(perturbed, (*samples.shape[:2], *flat.shape[1:]))
        logits["robust"] = tf.unstack(perturbed)
        batch = Predictions(y, clean, perturbed, weight)
        return objective(self.losses_of, batch), logits

    def _gradients_of(
        self,
        x: tf.Tensor,
        samples: tf.Tensor | None,
        y: tf.Tensor,
        weight: tf.Tensor,
        examples: tf.Tensor,
    ) -> tuple[tf.Tensor, Logits, list[tf.Tensor]]:
        """As `_forward`, and the gradient of the mean over all replicas' examples."""
        with tf.GradientTape() as tape:
            losses, logits = self._forward(x, samples, y, weight, training=True)
            loss = tf.reduce_sum(losses) / examples
            if self.classifier.losses:
                loss += tf.add_n(self.classifier.losses) / replicas.count()
            scaled = self.optimizer.scale_loss(loss)
        return losses, logits, tape.gradient(scaled, self.trainable_variables)

    def train_step(self, data: tuple) -> dict:
        """Perturbs outside of the tape, then one step of the optimizer."""
        x, y, weight = _tensors(data)
        samples = self._perturbed(x, y, training=True)
        share = prediction_weights(y, weight)
        # The optimizer adds up the replicas, which may differ in size.
        examples = replicas.total(tf.cast(tf.shape(x)[0], tf.float32))
        losses, logits, gradients = self._gradients(x, samples, y, share, examples)
        if self.trainable_variables:
            self.optimizer.apply_gradients(
                zip(gradients, self.trainable_variables, strict=True)
            )
        else:
            warnings.warn(
                "The classifier has no trainable weights: training changes nothing.",
                stacklevel=2,
            )
        return self._logs.update(y, share, losses, logits, self.losses_of)

    def test_step(self, data: tuple) -> dict:
        """Clean and perturbed predictions of a batch."""
        x, y, weight = _tensors(data)
        samples = self._perturbed(x, y, training=False)
        share = prediction_weights(y, weight)
        losses, logits = self._forward(x, samples, y, share, training=False)
        return self._logs.update(y, share, losses, logits, self.losses_of)

    def begin_epoch(self, epoch: int) -> None:
        """Notes the epoch: a variable, so nothing is retraced."""
        self._epoch.assign(epoch)

    def begin_evaluation(self) -> None:
        """Forgets the keys of other evaluations: all of them are to be alike."""
        self._draws.assign(self._draws.value * [1, 0])

    def convert(
        self, x: Any, y: Any, weight: Any, class_weight: dict[int, float] | None = None
    ) -> tuple[Any, Any, Any]:
        """Images with labels of the classifier's classes, float32 and int64."""
        size = (None, None) if self._any_size else self._image_shape[:2]
        x = checks.batch("x", x, (*size, self._image_shape[-1]))
        y = checks.labels_like(y, self._logits_shape, self.ignore_class)
        weight = weights_of(weight, y)
        if class_weight:
            own = class_weights(y, class_weight, self._logits_shape[-1])
            weight = own if weight is None else own * expanded(weight, y)
        return x, y, weight

    @classmethod
    def from_preset(cls, preset: str | Path) -> "RobustClassifier":
        """A classifier out of a folder, as `save_to_preset` writes it.

        Example:
            robust = RobustClassifier.from_preset("cifar10c_classifier-adversarial")
            logits = robust.classifier(images)

        Args:
            preset: Folder, name or address; see `PerturbationSet.from_preset`.

        Returns:
            The classifier without a perturbation, not compiled.

        Raises:
            FileNotFoundError: If there is no such folder or name.
            ImportError: If huggingface_hub is needed and is not installed.
            ValueError: If the preset is not of a `RobustClassifier`.
        """
        models, arguments = presets.read(preset, "RobustClassifier")
        return cls(models["classifier"], **arguments)

    def save_to_preset(
        self, folder: str | Path, card: Mapping[str, Any] | None = None
    ) -> Path:
        """Writes classifier.keras, preset.json, card.json and README.md into a folder.

        The file holds the classifier as it was given, without perturbation and
        optimizer. As of a set, a SavedModel in the same folder is exported first.

        Args:
            folder: Folder to write to; what else is there stays.
            card: Facts for the card: the data, results, `class_names`, the license.

        Returns:
            The folder.

        Raises:
            ValueError: If the classifier has not seen an image yet, or Keras cannot
                save it.
        """
        classifier = self.classifier
        facts = outputs.facts(classifier)
        return presets.write(
            folder,
            "RobustClassifier",
            {"classifier": classifier},
            {"ignore_class": self.ignore_class},
            facts,
            card,
        )

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
        config = {"classifier": classifier, "name": self.name}
        return {**config, "ignore_class": self.ignore_class}

    @classmethod
    def from_config(cls, config: dict) -> "RobustClassifier":
        """The inverse of `get_config`."""
        config = dict(config)
        classifier = keras.saving.deserialize_keras_object(config.pop("classifier"))
        return cls(classifier, **config)


def _tensors(data: tuple) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Images, labels and weights of a step; run eagerly, Keras gives it arrays."""
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    return tf.convert_to_tensor(x), tf.convert_to_tensor(y), weight

"""CheckedModel: a Keras model that looks at its data before it uses them."""

from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf

from lps_tf._internal import checks, inputs


class CheckedModel(keras.Model):
    """A Keras model whose data are checked, batch by batch.

    Whatever `fit`, `evaluate`, `train_on_batch` and `test_on_batch` take in Keras goes
    through `convert`, which a subclass gives: arrays at once, data sets and generators
    in their pipeline. A failed check is a ValueError.

    Training that is resumed by `lps_tf.Backup` or by Keras's BackupAndRestore
    comes to the very weights of one that was never interrupted: random numbers are
    counted in weights, and a tf.data.Dataset, made anew after `set_random_seed`, is
    taken to the pass where it was. That needs one pass an epoch: no `repeat`, no
    `steps_per_epoch`, and no arrays, which Keras shuffles in its own way.
    """

    def convert(
        self, x: Any, y: Any, weight: Any, class_weight: dict[int, float] | None = None
    ) -> tuple[Any, Any, Any]:
        """Checks a batch, and gives it the dtypes that a step takes.

        Args:
            x: Images, (batch, height, width, channels).
            y: Targets, (batch, ...).
            weight: Weights of the examples, or None.
            class_weight: Weights of the classes, or None.
        """
        raise NotImplementedError

    def begin_fit(self, batches: float) -> None:
        """Sets what depends on the length of a training; `fit` calls it.

        Args:
            batches: Batches of all epochs together, infinite if unknown.
        """

    def begin_epoch(self, epoch: int) -> None:
        """Sets what depends on the epoch, counted from 0; `fit` calls it."""

    def begin_evaluation(self) -> None:
        """Sets what an evaluation starts from; `evaluate` calls it."""

    def compile(self, optimizer: Any = "adam", **kwargs: Any) -> None:
        """Prepares for `fit`, as `keras.Model.compile`.

        Raises:
            ValueError: For what Keras cannot do on several replicas.
        """
        asked = {
            "jit_compile": kwargs.get("jit_compile") is True,
            "steps_per_execution": kwargs.get("steps_per_execution", 1) > 1,
            "gradient_accumulation_steps": bool(
                getattr(optimizer, "gradient_accumulation_steps", None)
            ),
        }
        number = self.distribute_strategy.num_replicas_in_sync
        if number > 1 and any(asked.values()):
            names = [f"`{name}`" for name, wanted in asked.items() if wanted]
            raise ValueError(
                f"Keras has no {', '.join(names)} under a distribution strategy; leave "
                f"it out. Received: {number} replicas"
            )
        super().compile(optimizer=optimizer, **kwargs)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        *,
        validation_data: Any = None,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        steps_per_epoch: int | None = None,
        callbacks: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Trains, as `keras.Model.fit`, on checked data."""
        self._require_compiled("fit")
        data = self.prepare(x, y, sample_weight, class_weight)
        if data.is_dataset:
            kwargs.setdefault("shuffle", False)  # the data set's own business
            least = self.distribute_strategy.num_replicas_in_sync
            data = replace(data, x=inputs.large_batches(data.x, least))
        if validation_data is not None:
            validation_data = self._validation(validation_data)
        steps = steps_per_epoch or data.batches(batch_size or 32)  # Keras's default
        self.begin_fit(epochs * steps)
        self._build_optimizer()
        self._initial_epoch = None  # Keras would keep that of an earlier restoration
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = [*_list(callbacks), _Epochs(data.x)]
            _give_directions(callbacks, self.metrics)
        return inputs.readable(
            super().fit,
            data.x,
            data.y,
            batch_size=batch_size,
            epochs=epochs,
            validation_data=validation_data,
            sample_weight=data.weight,
            steps_per_epoch=steps_per_epoch,
            callbacks=callbacks,
            **kwargs,
        )

    def _validation(self, data: Any) -> Any:
        if not isinstance(data, tuple | list):
            return self.prepare(data).x
        found = self.prepare(*inputs.unpacked(data))
        return inputs.packed(found.x, found.y, found.weight)

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Evaluates, as `keras.Model.evaluate`, on checked data."""
        # Validation inside `fit` arrives here as well, already checked.
        if not kwargs.get("_use_cached_eval_dataset"):
            self._require_compiled("evaluate")
            data = self.prepare(x, y, sample_weight)
            x, y, sample_weight = data.x, data.y, data.weight
        self.begin_evaluation()
        return inputs.readable(
            super().evaluate,
            x,
            y,
            batch_size=batch_size,
            verbose=verbose,
            sample_weight=sample_weight,
            **kwargs,
        )

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: dict[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """One step, as `keras.Model.train_on_batch`, on a checked batch."""
        self._require_compiled("train_on_batch")
        data = self.prepare(x, y, sample_weight, class_weight)
        self._build_optimizer()
        return super().train_on_batch(
            data.x, data.y, data.weight, return_dict=return_dict
        )

    def test_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Evaluates a checked batch, as `keras.Model.test_on_batch`."""
        self._require_compiled("test_on_batch")
        data = self.prepare(x, y, sample_weight)
        self.begin_evaluation()
        return super().test_on_batch(
            data.x, data.y, data.weight, return_dict=return_dict
        )

    def compile_from_config(self, config: dict) -> None:
        """Compiles with what `get_compile_config` gave, so that `fit` can go on."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self._build_optimizer()

    def load_weights(self, filepath: Any, **kwargs: Any) -> None:
        """Loads weights, as `keras.Model.load_weights`; all of them or none.

        Raises:
            ValueError: For a model that is not built, or a file of another network or
                other sizes.
        """
        if not self.built:
            raise ValueError(
                "A model has weights once it is built. Call `build((None, height, "
                f"width, channels))` first. Received: {filepath}"
            )
        before = self.get_weights()
        try:
            super().load_weights(filepath, **kwargs)
        except ValueError as error:
            self.set_weights(before)
            raise ValueError(
                f"{filepath} does not fit this model: it holds weights of another "
                f"network, or of other sizes. Keras says: {error}"
            ) from error

    def prepare(
        self,
        x: Any,
        y: Any = None,
        weight: Any = None,
        class_weight: dict[int, float] | None = None,
    ) -> inputs.Data:
        """Builds the model for data, if need be; returns the data with its checks.

        Args:
            x: Whatever `fit` takes as `x`.
            y: What it takes as `y`.
            weight: What it takes as `sample_weight`.
            class_weight: What it takes as `class_weight`.

        Raises:
            ValueError: If they are no data that `fit` takes, or fail a check.
        """
        data = inputs.Data.of(x, y, weight)
        # Callbacks that restore, and checks of labels, need a model that is built.
        if not self.built:
            self.build((None, *data.image_shape))
        return data.converted(
            lambda x, y, weight: self.convert(x, y, weight, class_weight)
        )

    def _build_optimizer(self) -> None:
        # A step that makes variables is traced twice. Built for no variables, the
        # optimizer would refuse those of a model that is frozen now and not later.
        if self.trainable_variables and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    def _require_compiled(self, method: str) -> None:
        if not self.compiled:
            raise ValueError(
                f"Call `compile()` before `{method}()`: it chooses the optimizer."
            )


def weights_of(weight: Any, y: Any) -> Any:
    """Weights of a batch as float32 that suit targets (batch, ...); None stays.

    Raises:
        ValueError: If the shape is neither (batch,) nor that of the targets.
    """
    if weight is None:
        return None
    weight = tf.cast(weight, tf.float32)
    if weight.shape.rank not in (1, len(y.shape)):
        raise ValueError(
            "Weights must have the shape (batch,), or that of the targets, "
            f"{tuple(y.shape)}. Received: shape {tuple(weight.shape)}"
        )
    least = tf.reduce_min(weight)
    return checks.require(
        (least >= 0) & tf.reduce_all(tf.math.is_finite(weight)),
        weight,
        "Weights must be at least 0 and finite. Received: a least one of",
        least,
    )


def _list(callbacks: Any) -> list:
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]


def _give_directions(callbacks: list, metrics: list) -> None:
    """Tells callbacks whether more is better: Keras knows only its own metrics."""
    directions = {metric.name: _direction(metric) for metric in metrics}
    for callback in callbacks:
        name = str(getattr(callback, "monitor", "")).removeprefix("val_")
        if getattr(callback, "mode", None) == "auto" and directions.get(name):
            callback.mode = directions[name]


def _direction(metric: keras.metrics.Metric) -> str | None:
    if type(metric) is keras.metrics.Mean:  # what the models here average: losses
        return "min"
    return {"up": "max", "down": "min"}.get(getattr(metric, "_direction", ""))


class _Epochs(keras.callbacks.Callback):
    """Tells the model where it is; takes the data there when training is resumed."""

    def __init__(self, data: Any):
        super().__init__()
        self.data = data

    def on_train_begin(self, logs: dict | None = None) -> None:
        if not isinstance(self.data, tf.data.Dataset):
            return
        # An iterator takes the random state of a pass, and reads nothing. Keras makes
        # two of them an epoch where it knows the number of batches.
        each = 2 if int(self.data.cardinality()) >= 0 else 1
        for _ in range(each * (self.model._initial_epoch or 0)):
            iter(self.data)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.model.begin_epoch(epoch)

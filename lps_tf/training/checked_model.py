"""CheckedModel: `fit` and `evaluate` that look at the data before they use it."""

from typing import Any

import keras
import tensorflow as tf

from lps_tf._internal import checks


class CheckedModel(keras.Model):
    """A Keras model whose data is checked batch by batch.

    Subclasses give `checked_data(x, y)`, which raises for bad arguments and returns
    what to iterate. Checks that need the numbers run in the input pipeline and end
    training with a ValueError.

    Training that is resumed by `lps_tf.Backup` or by Keras's BackupAndRestore
    comes to the very weights of one that was never interrupted: random numbers are
    counted in weights, and a tf.data.Dataset, made anew after `set_random_seed`, is
    taken to the pass where it was. That needs one pass an epoch: no `repeat`, no
    `steps_per_epoch`, and no arrays, which Keras shuffles in its own way.
    """

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

    def fit(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Trains, as `keras.Model.fit`, on checked data."""
        validation = kwargs.get("validation_data")
        if isinstance(validation, tf.data.Dataset):
            kwargs["validation_data"] = self.prepare(validation)
        elif isinstance(validation, tuple):
            self.prepare(*validation[:2])
        x = self.prepare(x, y)
        if isinstance(x, tf.data.Dataset):
            kwargs.setdefault("shuffle", False)  # the data set's own business
            x = checks.large_batches(x, self.distribute_strategy.num_replicas_in_sync)
        self.begin_fit(_batches(x, **kwargs))
        self._initial_epoch = None  # Keras would keep that of an earlier restoration
        kwargs["callbacks"] = [*(kwargs.get("callbacks") or []), _Epochs(x)]
        return checks.readable(super().fit, x, y, kwargs)

    def evaluate(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Evaluates, as `keras.Model.evaluate`, on checked data."""
        # Validation inside `fit` arrives here as well, already checked.
        if not kwargs.get("_use_cached_eval_dataset"):
            x = self.prepare(x, y)
        self.begin_evaluation()
        return checks.readable(super().evaluate, x, y, kwargs)

    def compile_from_config(self, config: dict) -> None:
        """Compiles with what `get_compile_config` gave, so that `fit` can go on."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def load_weights(self, filepath: Any, **kwargs: Any) -> None:
        """Loads weights, as `keras.Model.load_weights`; all of them or none.

        Raises:
            ValueError: For a file of another network or other sizes.
        """
        before = self.get_weights()
        try:
            super().load_weights(filepath, **kwargs)
        except ValueError as error:
            self.set_weights(before)
            raise ValueError(
                f"{filepath} does not fit this model: it holds weights of another "
                f"network, or of other sizes. Keras says: {error}"
            ) from error

    def prepare(self, x: Any, y: Any = None) -> Any:
        """Builds the model for data, if need be; returns the data with its checks."""
        # Callbacks that restore, and checks of labels, need a model that is built.
        shape = checks.image_shape_of(x)
        if not self.built and shape is not None:
            self.build((None, *shape))
        return self.checked_data(x, y)


def _batches(
    x: Any,
    epochs: int = 1,
    steps_per_epoch: int | None = None,
    batch_size: int | None = None,
    **_: Any,
) -> float:
    """How many batches a call of `fit` takes."""
    if steps_per_epoch is None:
        if isinstance(x, tf.data.Dataset):
            steps_per_epoch = x.cardinality().numpy()
        else:
            steps_per_epoch = -(-len(x) // (batch_size or 32))  # as Keras has it
    return epochs * steps_per_epoch if steps_per_epoch >= 0 else float("inf")


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

"""CheckedModel: `fit` and `evaluate` that look at the data before they use it."""

from typing import Any

import keras
import tensorflow as tf

from lps_tf import checks


class CheckedModel(keras.Model):
    """A Keras model whose data is checked batch by batch.

    Subclasses give `checked_data(x, y)`, which raises for bad arguments and returns
    what to iterate. Checks that need the numbers run in the input pipeline and end
    training with a ValueError.
    """

    def fit(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Trains, as `keras.Model.fit`, on checked data."""
        validation = kwargs.get("validation_data")
        if isinstance(validation, tf.data.Dataset):
            kwargs["validation_data"] = self._prepare(validation)
        elif isinstance(validation, tuple):
            self._prepare(*validation[:2])
        x = self._prepare(x, y)
        if isinstance(x, tf.data.Dataset):
            kwargs.setdefault("shuffle", False)  # the data set's own business
        return checks.readable(super().fit, x, y, kwargs)

    def evaluate(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Evaluates, as `keras.Model.evaluate`, on checked data."""
        # Validation inside `fit` arrives here as well, already checked.
        if not kwargs.get("_use_cached_eval_dataset"):
            x = self._prepare(x, y)
        return checks.readable(super().evaluate, x, y, kwargs)

    def compile_from_config(self, config: dict) -> None:
        """Compiles with what `get_compile_config` gave, so that `fit` can go on."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def load_weights(self, filepath: Any, **kwargs: Any) -> None:
        """Loads weights, as `keras.Model.load_weights`; all of them or none.

        Raises:
            ValueError: for a file of another network or other sizes.
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

    def _prepare(self, x: Any, y: Any = None) -> Any:
        # Callbacks that restore, and checks of labels, need a model that is built.
        shape = checks.image_shape_of(x)
        if not self.built and shape is not None:
            self.build((None, *shape))
        return self.checked_data(x, y)

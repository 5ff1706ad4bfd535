"""Schedules of the learning rate and of the KL weight beta."""

import itertools
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf._internal.describing import described


@keras.saving.register_keras_serializable("lps_tf")
class PiecewiseLinear(keras.optimizers.schedules.LearningRateSchedule):
    """Values joined by straight lines over epochs, constant outside of them.

    Both of the paper's schedules have this form. As `beta` of a `PerturbationSet` it
    is evaluated at the start of each epoch (`at`); as the learning rate of an
    optimizer at every step, at epoch + (batch + 1) / batches.

    Example:
        PiecewiseLinear([0, 40, 100], [0, 8e-4, 0], steps_per_epoch=461)

    Args:
        epochs: Increasing epochs, at least one.
        values: Value at each of these epochs.
        steps_per_epoch: Batches in an epoch; only a learning rate needs it.

    Raises:
        ValueError: If epochs do not increase or the lengths differ.
    """

    def __init__(
        self,
        epochs: Sequence[float],
        values: Sequence[float],
        steps_per_epoch: int | None = None,
    ):
        epochs, values = [float(e) for e in epochs], [float(v) for v in values]
        if not epochs or len(epochs) != len(values):
            raise ValueError(
                "`epochs` and `values` must have the same length, at least 1. "
                f"Received: {len(epochs)} epochs and {len(values)} values."
            )
        if not all(a < b for a, b in itertools.pairwise(epochs)):
            raise ValueError(f"`epochs` must increase. Received: epochs={epochs}")
        if not np.isfinite([*epochs, *values]).all():
            raise ValueError(
                "`epochs` and `values` must be finite. "
                f"Received: epochs={epochs}, values={values}"
            )
        if steps_per_epoch is not None:
            checks.count("steps_per_epoch", steps_per_epoch)
        self.epochs, self.values, self.steps_per_epoch = epochs, values, steps_per_epoch

    def __repr__(self) -> str:
        more = {"steps_per_epoch": self.steps_per_epoch}
        return described(
            self, self.epochs, self.values, **(more if self.steps_per_epoch else {})
        )

    def at(self, epoch: float) -> float:
        """The value at an epoch, which may be a fraction."""
        return float(np.interp(epoch, self.epochs, self.values))

    @property
    def final(self) -> float:
        """The last value."""
        return self.values[-1]

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The value at an optimizer's step, counted from 0."""
        if self.steps_per_epoch is None:
            raise ValueError(
                "A `PiecewiseLinear` used as a learning rate needs `steps_per_epoch`, "
                "the number of batches in an epoch. Received: steps_per_epoch=None"
            )
        epoch = (tf.cast(step, tf.float32) + 1.0) / self.steps_per_epoch
        value = tf.constant(self.values[0], tf.float32)
        for i in range(1, len(self.epochs)):
            e0, e1 = self.epochs[i - 1], self.epochs[i]
            part = tf.clip_by_value((epoch - e0) / (e1 - e0), 0.0, 1.0)
            value += part * (self.values[i] - self.values[i - 1])
        return value

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            "epochs": self.epochs,
            "values": self.values,
            "steps_per_epoch": self.steps_per_epoch,
        }

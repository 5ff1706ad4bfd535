"""PiecewiseLinear: the paper's schedules of the learning rate and of beta."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lps_tf.training.schedules import PiecewiseLinear

SCHEDULES = [
    ([0, 40, 100], [0, 8e-4, 0]),
    ([0, 10, 15, 20], [1e-3, 1e-3, 5e-4, 1e-4]),
    ([5, 7.5], [2.0, -1.0]),
    ([3], [0.25]),
]


@pytest.mark.parametrize("epochs, values", SCHEDULES)
def test_value_at_an_epoch_is_the_interpolated_one(epochs, values):
    schedule = PiecewiseLinear(epochs, values)
    for epoch in np.linspace(-2, 120, 245):
        expected = np.interp(epoch, epochs, values)
        np.testing.assert_allclose(schedule.at(epoch), expected, rtol=1e-12)
    assert schedule.final == values[-1]


@pytest.mark.parametrize("epochs, values", SCHEDULES)
def test_value_at_a_step_is_that_of_the_epochs_done_after_it(epochs, values):
    batches = 7
    schedule = PiecewiseLinear(epochs, values, steps_per_epoch=batches)
    compiled = tf.function(schedule, jit_compile=True)
    scale = max(map(abs, values))
    for step in [0, 1, 5, 6, 7, 34, 35, 36, 69, 105, 140, 279, 280, 700, 10_000]:
        # The paper's epoch + (batch + 1) / batches.
        epoch, batch = divmod(step, batches)
        expected = np.interp(epoch + (batch + 1) / batches, epochs, values)
        for call in (schedule, compiled):
            value = call(tf.constant(step, tf.int64))
            assert value.dtype == tf.float32 and value.shape == ()
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6 * scale)


def test_survives_serialisation():
    schedule = PiecewiseLinear([0, 4, 10], [0, 1e-3, 1e-4], steps_per_epoch=3)
    config = keras.saving.serialize_keras_object(schedule)
    again = keras.saving.deserialize_keras_object(config)
    assert isinstance(again, PiecewiseLinear)
    assert again.get_config() == schedule.get_config()
    for step in range(40):
        np.testing.assert_array_equal(again(step), schedule(step))


def test_is_a_learning_rate_of_adam():
    # Adam moves by exactly the learning rate when the gradient never changes.
    schedule = PiecewiseLinear([0, 2, 5], [1e-3, 0.1, 0], steps_per_epoch=2)
    optimizer = keras.optimizers.Adam(schedule, epsilon=1e-12)
    reloaded = keras.optimizers.Adam.from_config(optimizer.get_config())
    for adam in (optimizer, reloaded):
        weight = keras.Variable(np.zeros(1, np.float32))
        adam.build([weight])
        moves = []
        for _ in range(12):
            before = float(weight.numpy()[0])
            adam.apply([tf.constant([3.0])], [weight])
            moves.append(before - float(weight.numpy()[0]))
        epochs = (np.arange(12) + 1) / 2
        expected = np.interp(epochs, [0, 2, 5], [1e-3, 0.1, 0])
        np.testing.assert_allclose(moves, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "epochs, values, message",
    [
        ([], [], "same length, at least 1.*0 epochs and 0 values"),
        ([0, 1], [1.0], "same length, at least 1.*2 epochs and 1 values"),
        ([0, 2, 2], [0, 1, 2], r"`epochs` must increase.*\[0.0, 2.0, 2.0\]"),
        ([0, 2, 1], [0, 1, 2], "`epochs` must increase"),
        ([float("nan"), 1], [0, 1], "`epochs` must increase"),
    ],
)
def test_refuses_what_is_no_schedule(epochs, values, message):
    with pytest.raises(ValueError, match=message):
        PiecewiseLinear(epochs, values)


@pytest.mark.parametrize("steps", [0, -3, 2.5, "many"])
def test_refuses_steps_that_are_no_count(steps):
    with pytest.raises(ValueError, match=r"`steps_per_epoch` must be.*Received"):
        PiecewiseLinear([0, 1], [0, 1], steps_per_epoch=steps)


def test_as_a_learning_rate_it_needs_the_steps_per_epoch():
    with pytest.raises(ValueError, match=r"needs `steps_per_epoch`.*Received"):
        PiecewiseLinear([0, 1], [0, 1])(0)

"""Attributes that are fixed at construction."""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf

from lps_tf._internal.fixed import Adjustable, Fixed


class Noise(Fixed):
    FIXED = ("sigma",)

    def __init__(self, sigma):
        self.sigma, self.calls = sigma, 0


class NoiseLayer(Fixed, keras.layers.Layer):
    FIXED = ("inner",)

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)


def test_a_fixed_attribute_is_not_replaced_and_others_are():
    noise = Noise(0.5)
    with pytest.raises(AttributeError, match=r"`sigma` of a Noise is fixed.*another"):
        noise.sigma = 5.0
    noise.calls += 1
    assert noise.sigma == 0.5 and noise.calls == 1
    assert copy.deepcopy(noise).sigma == 0.5


def test_a_layer_of_keras_can_have_some():
    layer = NoiseLayer(keras.layers.Dense(2))
    layer(keras.ops.ones((1, 3)))
    with pytest.raises(AttributeError, match="`inner` of a NoiseLayer is fixed"):
        layer.inner = keras.layers.Dense(3)
    assert len(layer.trainable_variables) == 2


class Ball:
    radius = Adjustable()

    def __init__(self, radius):
        self.radius = radius


def test_a_number_that_may_change_changes_in_graphs_too():
    ball, other = Ball(1.22), Ball(7)
    assert ball.radius == 1.22 and isinstance(other.radius, float)  # not in 32 bits
    traced = []

    @tf.function
    def doubled():
        traced.append(1)
        return 2 * Adjustable.tensor(ball, "radius")

    assert doubled().numpy() == pytest.approx(2.44)
    ball.radius = 0.3
    assert ball.radius == 0.3 and doubled().numpy() == pytest.approx(0.6)
    assert len(traced) == 1 and other.radius == 7
    copied = copy.deepcopy(ball)
    copied.radius = 5.0
    assert ball.radius == 0.3
    for bad in (0, -1.0, np.inf, np.nan, "large"):
        with pytest.raises(ValueError, match="`radius` must be"):
            ball.radius = bad
    assert ball.radius == 0.3 and doubled().numpy() == pytest.approx(0.6)

"""Attributes that are fixed at construction."""

import copy

import keras
import pytest

from lps_tf._internal.fixed import Fixed


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

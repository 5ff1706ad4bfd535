"""Layers that networks share, against TensorFlow's own operations and NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lps_tf.networks.layers import NarrowConv2D, flatten_channels_first, reflect_pad

# Outputs smaller than a 6x6 tile, one tile, and several with a rest.
SIZES = [(7, 7), (8, 13), (11, 9), (16, 17), (50, 23)]


def normal(shape, seed):
    return np.random.RandomState(seed).normal(size=shape).astype(np.float32)


def layer_and_data(channels, filters, side, size, batch=3):
    layer = NarrowConv2D(filters, side)
    layer.build((None, *size, channels))
    layer.kernel.assign(normal(layer.kernel.shape, 1) / side)
    layer.bias.assign(normal((filters,), 2))
    return layer, tf.constant(normal((batch, *size, channels), 3))


def library(layer, x):
    return tf.nn.conv2d(x, layer.kernel.value, 1, "VALID") + layer.bias.value


def values_and_gradients(convolve, layer, x, weight):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = convolve(x)
        value = tf.reduce_sum(weight * y)
    return [y, *tape.gradient(value, [x, *(v.value for v in layer.weights)])]


def assert_convolves(layer, x, run):
    shape = library(layer, x).shape
    weight = tf.constant(normal(shape, 4) / 10)
    expected = values_and_gradients(lambda x: library(layer, x), layer, x, weight)
    results = run(lambda x: values_and_gradients(layer, layer, x, weight))(x)
    y, dx, dkernel, dbias = results
    assert y.shape == shape
    np.testing.assert_allclose(y, expected[0], atol=2e-5)
    np.testing.assert_allclose(dx, expected[1], atol=2e-5)
    # Weights' gradients are sums over all pixels, and so larger.
    for gradient, other in ((dkernel, expected[2]), (dbias, expected[3])):
        scale = max(1.0, np.abs(other).max())
        np.testing.assert_allclose(gradient, other, atol=2e-5 * scale)


@pytest.mark.parametrize("side", [3, 5])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", SIZES)
def test_narrow_convolution_is_the_convolution(channels, side, size):
    layer, x = layer_and_data(channels, 6 - channels, side, size)
    assert_convolves(layer, x, lambda f: f)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(
    "channels, filters, side, size",
    [(1, 1, 3, (7, 7)), (5, 5, 5, (11, 9)), (4, 4, 3, (46, 46)), (5, 1, 5, (16, 17))],
)
def test_narrow_convolution_is_the_same_compiled(
    channels, filters, side, size, jit_compile
):
    layer, x = layer_and_data(channels, filters, side, size)
    assert_convolves(layer, x, tf.function(jit_compile=jit_compile))


def test_narrow_convolution_takes_any_batch_in_one_trace():
    layer, x = layer_and_data(2, 3, 5, (12, 15), batch=7)
    spec = tf.TensorSpec((None, 12, 15, 2))
    convolve = tf.function(layer, input_signature=[spec])
    for batch in (x, x[:1], x[:4]):
        np.testing.assert_allclose(convolve(batch), library(layer, batch), atol=2e-5)


def test_narrow_convolution_in_half_precision_is_near():
    layer = NarrowConv2D(3, 5, dtype="mixed_bfloat16")
    layer.build((None, 14, 14, 2))
    layer.kernel.assign(normal(layer.kernel.shape, 1) / 5)
    x = tf.constant(normal((2, 14, 14, 2), 3))
    y = layer(x)
    assert y.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(y, tf.float32), library(layer, x), atol=0.1)


def test_narrow_convolution_survives_serialisation():
    layer, x = layer_and_data(2, 3, 5, (9, 11))
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert isinstance(again, NarrowConv2D)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), layer(x))


def test_a_model_with_narrow_convolutions_survives_its_file(tmp_path):
    model = keras.Sequential([keras.Input((9, 11, 2)), NarrowConv2D(3, 3)])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = tf.constant(normal((2, 9, 11, 2), 3))
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize("width", [0, 1, 2, 4])
@pytest.mark.parametrize("shape", [(2, 5, 8, 1), (1, 9, 6, 3)])
def test_reflect_pad_is_numpys(shape, width):
    x = normal(shape, 0)
    expected = np.pad(x, ((0, 0), (width, width), (width, width), (0, 0)), "reflect")
    np.testing.assert_array_equal(reflect_pad(tf.constant(x), width), expected)


@pytest.mark.parametrize("shape", [(2, 3, 4, 1), (1, 2, 5, 3), (4, 1, 1, 2)])
def test_flattening_runs_channel_by_channel(shape):
    x = normal(shape, 0)
    expected = np.moveaxis(x, -1, 1).reshape(shape[0], -1)
    np.testing.assert_array_equal(flatten_channels_first(tf.constant(x)), expected)
    # Stacked images stay whole, one after the other.
    stacked = flatten_channels_first(tf.concat([x, x + 1], -1)).numpy()
    np.testing.assert_array_equal(stacked[:, : expected.shape[1]], expected)

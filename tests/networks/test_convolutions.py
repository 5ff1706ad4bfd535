"""Convolutions as matrix products, against TensorFlow's own."""

import numpy as np
import pytest
import tensorflow as tf

from lps_tf.networks import classifiers
from lps_tf.networks.xla_cpu import convolutions

# (channels, filters) of every algorithm, and on both sides of its limits.
SIZES = [(40, 16), (16, 40), (64, 64), (70, 65), (20, 24)]


def normal(shape, seed):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def library(x, kernel):
    return tf.nn.conv2d(x, kernel, 1, "SAME")


def with_gradients(convolve, x, kernel, weight):
    with tf.GradientTape() as tape:
        tape.watch([x, kernel])
        y = convolve(x, kernel)
        value = tf.reduce_sum(y * weight)
    return y, *tape.gradient(value, [x, kernel])


def assert_close(found, expected):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=3e-5 * np.abs(expected).max())


@pytest.mark.parametrize("size", [(9, 14), (3, 1)])
@pytest.mark.parametrize("channels, filters", SIZES)
def test_results_and_gradients_are_the_librarys(channels, filters, size):
    x = normal((2, *size, channels), 0)
    kernel = normal((3, 3, channels, filters), 1) / np.sqrt(9 * channels)
    weight = normal((2, *size, filters), 2)
    expected = with_gradients(library, x, kernel, weight)
    compiled = tf.function(convolutions.same, jit_compile=True)
    for convolve in (convolutions.same, compiled):
        found = with_gradients(convolve, x, kernel, weight)
        for ours, theirs in zip(found, expected, strict=True):
            assert_close(ours, theirs)


@pytest.mark.parametrize("channels, filters", [(40, 16), (64, 64)])
def test_sizes_need_not_be_known(channels, filters):
    kernel = normal((3, 3, channels, filters), 1)
    spec = tf.TensorSpec([None, None, None, channels])
    convolve = tf.function(
        lambda x: convolutions.same(x, kernel), jit_compile=True, input_signature=[spec]
    )
    for size in ((5, 6), (8, 4)):
        x = normal((3, *size, channels), 3)
        assert_close(convolve(x), library(x, kernel))


def test_kernels_may_have_other_sides():
    kernel, x = normal((5, 5, 40, 16), 1), normal((2, 6, 7, 40), 0)
    assert_close(convolutions.same(x, kernel), library(x, kernel))


def operations(function):
    graph = function.get_concrete_function(tf.TensorSpec((2, 8, 8, 3))).graph
    return [operation.type for operation in graph.get_operations()]


def test_only_what_xla_compiles_has_them():
    # What is exported may run anywhere, and is left to the library.
    model = classifiers.wide_resnet((8, 8, 3), depth=10, width=2)
    model(tf.zeros((2, 8, 8, 3)))
    plain = operations(tf.function(lambda x: model(x)))
    compiled = operations(tf.function(lambda x: model(x), jit_compile=True))
    assert plain.count("Conv2D") > compiled.count("Conv2D") > 0

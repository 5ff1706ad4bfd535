"""Max pooling by comparisons, against TensorFlow's own."""

import numpy as np
import pytest
import tensorflow as tf

from lps_tf.networks.xla_cpu.pooling import max_pool


def library(x):
    return tf.nn.max_pool2d(x, 2, 2, "VALID")


def with_gradient(pool, x):
    """Pooled maps, and the gradient of a sum of them with a weight for each."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = pool(x)
        weight = tf.range(1, tf.size(y) + 1)  # 0 would hide where it went
        value = tf.reduce_sum(y * tf.cast(tf.reshape(weight, tf.shape(y)), y.dtype))
    return y, tape.gradient(value, x)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("size", [(8, 6), (7, 5), (2, 3), (9, 4)])
def test_results_and_gradients_are_the_librarys(size, dtype):
    # Of three values, so that most windows have equal ones.
    values = np.random.default_rng(0).integers(0, 3, (4, *size, 5))
    x = tf.constant(values, dtype)
    compiled = tf.function(lambda x: with_gradient(max_pool, x), jit_compile=True)
    for found in (compiled(x), with_gradient(max_pool, x)):
        for ours, theirs in zip(found, with_gradient(library, x), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_sizes_need_not_be_known():
    spec = tf.TensorSpec([None, None, None, 3])
    compiled = tf.function(max_pool, jit_compile=True, input_signature=[spec])
    for size in ((5, 6), (8, 3)):
        x = tf.random.normal((2, *size, 3))
        np.testing.assert_array_equal(compiled(x), library(x))


@pytest.mark.parametrize("xla", [True, False])
def test_only_what_xla_compiles_has_it(xla):
    function = tf.function(max_pool, jit_compile=xla)
    graph = function.get_concrete_function(tf.TensorSpec((2, 8, 8, 3))).graph
    types = [operation.type for operation in graph.get_operations()]
    assert ("MaxPool" in types) is not xla

"""Convolutions that XLA runs slowly on a CPU, in our form against its own.

These rows say whether the choice of forms suits a processor: see `networks/xla_cpu`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tests.benchmarks.harness import Benchmark, Work

BATCH = 32


def back_and_forth(function: Callable, *shapes: Sequence[int]) -> Work:
    """A compiled function of random tensors and its gradients, first of its results."""
    import numpy as np
    import tensorflow as tf

    random = np.random.default_rng(0)
    values = [tf.constant(random.random(shape, np.float32)) for shape in shapes]
    dy = tf.constant(random.random(function(*values).shape, np.float32))

    @tf.function(jit_compile=True, autograph=False)
    def compiled(*values: Any) -> list:
        with tf.GradientTape() as tape:
            tape.watch(values)
            y = function(*values)
        return [y, *tape.gradient(y, values, dy)]

    return lambda: [result.numpy() for result in compiled(*values)]


def convolution(channels: int, filters: int, size: int, ours: bool) -> Work:
    """A 3x3 convolution."""
    import tensorflow as tf

    from lps_tf.networks.xla_cpu import convolutions

    def library(x: Any, kernel: Any) -> Any:
        return tf.nn.conv2d(x, kernel, 1, "SAME")

    shapes = (BATCH, size, size, channels), (3, 3, channels, filters)
    return back_and_forth(convolutions.same if ours else library, *shapes)


BENCHMARKS = [
    Benchmark(
        f"convolve {channels} to {filters} channels, {size}x{size}, batch {BATCH}",
        1,
        "times/s",
        partial(convolution, channels, filters, size, ours=True),
        {"XLA's own": partial(convolution, channels, filters, size, ours=False)},
    )
    for channels, filters, size in (
        (64, 16, 32),
        (16, 64, 32),
        (64, 3, 32),
        (64, 64, 32),
        (128, 128, 16),
    )
]

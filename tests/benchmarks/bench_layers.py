"""Convolutions that XLA runs slowly on a CPU, in our form against its own.

These rows say whether the choice of forms suits a processor: see `networks/xla_cpu`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tests.benchmarks.harness import Benchmark, Work


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


def convolution(x: Sequence[int], kernel: Sequence[int], ours: bool) -> Work:
    """A convolution of the shapes of maps and kernel; of side 5 without padding."""
    import tensorflow as tf

    from lps_tf.networks.xla_cpu import convolutions

    narrow = kernel[0] == 5

    def library(x: Any, kernel: Any) -> Any:
        return tf.nn.conv2d(x, kernel, 1, "VALID" if narrow else "SAME")

    function = convolutions.narrow if narrow else convolutions.same
    return back_and_forth(function if ours else library, x, kernel)


def benchmark(
    channels: int, filters: int, size: int, side: int = 3, batch: int = 32
) -> Benchmark:
    """A row: a convolution, there and back."""
    shapes = (batch, size, size, channels), (side, side, channels, filters)
    kernel = "" if side == 3 else f", {side}x{side}"
    return Benchmark(
        f"convolve {channels} to {filters} channels, {size}x{size}{kernel}, "
        f"batch {batch}",
        1,
        "times/s",
        partial(convolution, *shapes, ours=True),
        {"XLA's own": partial(convolution, *shapes, ours=False)},
    )


BENCHMARKS = [
    benchmark(64, 16, 32),
    benchmark(16, 64, 32),
    benchmark(64, 3, 32),
    benchmark(64, 64, 32),
    benchmark(128, 128, 16),
    benchmark(2, 2, 46, side=5, batch=128),
    benchmark(5, 5, 46, side=5, batch=128),
]

"""Training a perturbation set: a step of `fit` against a plain PyTorch step."""

from collections.abc import Sequence
from functools import partial

from tests.benchmarks.harness import Benchmark, Work

BETA = 0.01
LEARNING_RATE = 1e-4


def pairs(image_shape: Sequence[int], batch: int):
    """A batch that stays in memory: no input pipeline counts."""
    import numpy as np

    random = np.random.default_rng(0)
    return random.uniform(size=(2, batch, *image_shape)).astype("float32")


def our_step(network: str, image_shape: Sequence[int], batch: int) -> Work:
    """The compiled function that `fit` calls for each batch, with Adam."""
    import keras
    import tensorflow as tf

    import lps_tf as lps

    data = tf.data.Dataset.from_tensors(tuple(pairs(image_shape, batch))).repeat()
    pset = lps.PerturbationSet.from_network(network)
    adam = keras.optimizers.Adam(LEARNING_RATE)
    pset.compile(adam, beta=BETA, jit_compile=True)
    pset.fit(data, steps_per_epoch=1, verbose=0)
    iterator = iter(data)
    return lambda: float(pset.train_function(iterator)["loss"])


def peer_step(
    network: str, image_shape: Sequence[int], batch: int, compiled: bool
) -> Work:
    """The same step in plain PyTorch, or compiled and with its fused Adam."""
    import torch

    from tests.benchmarks import torch_networks
    from tests.benchmarks.torch_cvae import training_step

    torch.manual_seed(0)
    data = [
        torch.tensor(images).permute(0, 3, 1, 2).contiguous()
        for images in pairs(image_shape, batch)
    ]
    model = getattr(torch_networks, network)()
    adam = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=compiled)
    run = torch.compile(model) if compiled else model
    return lambda: training_step(run, adam, *data, BETA)


def benchmark(
    network: str, what: str, image_shape: Sequence[int], batch: int
) -> Benchmark:
    """A row: a network and images."""
    sizes = (network, image_shape, batch)
    peers = {
        "PyTorch": partial(peer_step, *sizes, compiled=False),
        "torch.compile, fused Adam": partial(peer_step, *sizes, compiled=True),
    }
    name = f"train {network}, {what}"
    return Benchmark(name, 1.1, "steps/s", partial(our_step, *sizes), peers)


BENCHMARKS = [
    benchmark("cifar10_residual", "batch 32", (32, 32, 3), 32),
    benchmark("mi_unet", "62x93, batch 4", (62, 93, 3), 4),
    benchmark("mnist_conv", "batch 128", (28, 28, 1), 128),
    benchmark("mnist_stn", "batch 128", (42, 42, 1), 128),
]

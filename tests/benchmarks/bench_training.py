"""Training a perturbation set: a step of `fit` against a plain PyTorch step."""

from collections.abc import Sequence
from functools import cache, partial

from tests.benchmarks.harness import Benchmark, Sides, Work

BETA = 0.01
LEARNING_RATE = 1e-4


def training(network: str, image_shape: Sequence[int], batch: int) -> Sides:
    """A step of Adam on one batch that stays in memory: no input pipeline counts."""
    import numpy as np

    random = np.random.default_rng(0)
    x, x_perturbed = random.uniform(size=(2, batch, *image_shape)).astype("float32")
    peer, extra = peer_steps(network, x, x_perturbed)
    return Sides(our_step(network, x, x_perturbed), peer, extra)


def our_step(network: str, x, x_perturbed) -> Work:
    """The compiled function that `fit` calls for each batch."""
    import keras
    import tensorflow as tf

    import lps_tf as lps

    pairs = tf.data.Dataset.from_tensors((x, x_perturbed)).repeat()
    pset = lps.PerturbationSet.from_network(network)
    adam = keras.optimizers.Adam(LEARNING_RATE)
    pset.compile(adam, beta=BETA, jit_compile=True)
    pset.fit(pairs, steps_per_epoch=1, verbose=0)
    iterator = iter(pairs)
    return lambda: float(pset.train_function(iterator)["loss"])


def peer_steps(network: str, x, x_perturbed) -> tuple[Work, dict[str, Work]]:
    """The same step in plain PyTorch; its compiler too, alone and with a fused Adam.

    All train one model: as it is, the U-Net's benchmark takes 14 GB of memory.
    """
    import torch

    from tests.benchmarks import torch_networks
    from tests.benchmarks.torch_cvae import training_step

    torch.manual_seed(0)
    pairs = [torch.tensor(a).permute(0, 3, 1, 2).contiguous() for a in (x, x_perturbed)]
    model = getattr(torch_networks, network)()
    adam = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    fused = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True)
    compiled = cache(lambda: torch.compile(model))  # at the first call: it may fail
    extra = {
        "torch.compile": lambda: training_step(compiled(), adam, *pairs, BETA),
        "torch.compile, fused Adam": lambda: training_step(
            compiled(), fused, *pairs, BETA
        ),
    }
    return lambda: training_step(model, adam, *pairs, BETA), extra


BENCHMARKS = [
    Benchmark(
        f"train {network}, {what}",
        goal,
        "steps/s",
        partial(training, network, image_shape, batch),
        needs_torch=True,
    )
    for network, what, goal, image_shape, batch in (
        ("cifar10_residual", "batch 32", 1.4, (32, 32, 3), 32),
        ("mi_unet", "62x93, batch 4", 1.3, (62, 93, 3), 4),
        ("mnist_stn", "batch 128", 1.3, (42, 42, 1), 128),
    )
]

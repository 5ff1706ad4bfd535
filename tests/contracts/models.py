"""A small one of each network, and pictures for it; see the tests beside."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from lps_tf.networks import classifiers


def slow(case):
    return pytest.param(case, marks=pytest.mark.slow)


# The coarser half precision in the fast tests, the finer one in the slow ones.
PRECISIONS = ["mixed_bfloat16", slow("mixed_float16")]
# The golden tests have all five levels.
UNET = {
    "channels": (4, 6, 8),
    "latents": (3, 2, 1),
    "pool": ((9, 13), (5, 7), (2, 2)),
}
# Sizes and images small enough for seconds. The first image is square, or not.
SETS = {
    "mnist_fc": ({"latent_dim": 6, "units": 10}, (8, 12, 1)),
    "mnist_conv": ({"latent_channels": 3, "filters": (4, 6)}, (12, 20, 1)),
    "mnist_stn": (
        {"latent_dim": 4, "transformers": 2, "localisation": (8, 6)},
        (12, 15, 1),
    ),
    "cifar10_residual": (
        {"latent_dim": 5, "blocks": 1, "wide": 6, "narrow": 3},
        (13, 10, 3),
    ),
    "mi_unet": (UNET, (33, 47, 3)),
}

# mi_unet takes longest; the golden tests have it in the fast tier too.
FAST_SETS = [slow(name) if name == "mi_unet" else name for name in SETS]

CLASSIFIERS = {
    "small_cnn": lambda: classifiers.small_cnn((12, 12, 1), 3, (4,), 8),
    "mnist_conv": lambda: classifiers.mnist_conv((12, 20, 1), 3, 8),
    "wide_resnet": lambda: classifiers.wide_resnet((16, 20, 3), 3, 10, 1),
    "unet": lambda: classifiers.Unet(3, (4, 6, 8)),
}


@contextlib.contextmanager
def policy(name):
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def new_set(name, **kwargs):
    keras.utils.set_random_seed(0)
    sizes, shape = SETS[name]
    pset = lps.PerturbationSet.from_network(name, **sizes, **kwargs)
    pset.build((None, *shape))
    return pset


def pictures(n, shape, seed=0):
    # Smooth, so that half precision has something to be close to.
    coarse = np.random.RandomState(seed).uniform(size=(n, 4, 4, shape[-1]))
    return np.float32(tf.image.resize(coarse, shape[:2]))


def pairs_of(shape, n=4):
    x = pictures(n, shape)
    return x, np.clip(x * 0.8 + 0.1 * pictures(n, shape, 1), 0, 1)


def new_classifier(name):
    keras.utils.set_random_seed(0)
    model = CLASSIFIERS[name]()
    shape = model.input_shape[1:] if model.built else (33, 47, 3)
    model.build((None, *shape))
    return model, shape

"""The networks equal the original ones, whose outputs tests/golden holds.

No weights are stored: a rule gives them from the original's parameter names.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps

GOLDEN = Path(__file__).parent / "golden"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text())


def original_weight(name, shape):
    seed = (zlib.crc32(name.encode()) + MANIFEST["seed"]) % 2**32
    v = np.random.RandomState(seed).randn(*shape)
    if name.endswith("running_var"):
        return np.exp(0.1 * v)
    if name.endswith(("running_mean", "bias")):
        return 0.1 * v
    if len(shape) == 1:
        return 1 + 0.1 * v
    return v / np.sqrt(np.prod(shape[1:]))


def set_layer(layer, state, name):
    """Convolutions, dense layers and batch norms from PyTorch's layout."""
    weight = state.pop(f"{name}.weight")
    if weight.ndim == 1:
        rest = [
            state.pop(f"{name}.{s}") for s in ("bias", "running_mean", "running_var")
        ]
        state.pop(f"{name}.num_batches_tracked")
        layer.set_weights([weight, *rest])
        return
    weight = weight.T if weight.ndim == 2 else weight.transpose(2, 3, 1, 0)
    layer.set_weights([weight, state.pop(f"{name}.bias")])


def set_block(block, state, name):
    for i in range(2):
        set_layer(block.norms[i], state, f"{name}.bn{i + 1}")
        set_layer(block.convs[i], state, f"{name}.conv{i + 1}")


@pytest.fixture(scope="module")
def original():
    pset = lps.PerturbationSet.from_network("mnist_stn")
    pset.build((None, 42, 42, 1))
    shapes = MANIFEST["models"]["mnist_stn"]["state_dict"]
    state = {name: original_weight(name, shape) for name, shape in shapes.items()}
    for part, network in (
        ("prior", pset.prior_network),
        ("recognition", pset.recognition_network),
    ):
        set_block(network.block, state, f"{part}.block")
        set_layer(network.mean, state, f"{part}.fc31")
        set_layer(network.log_variance, state, f"{part}.fc32")
    generator = pset.generator
    set_layer(generator.latent_map, state, "generator.fc")
    for i, locate in enumerate(generator.locators):
        stn = f"generator.stns.{i}"
        names = (f"{stn}.localization.1", f"{stn}.localization.3", f"{stn}.fc")
        for layer, name in zip(locate.layers, names, strict=True):
            set_layer(layer, state, name)
    set_block(generator.block, state, "generator.block")
    set_layer(generator.to_image, state, "generator.conv")
    assert not state  # every tensor was used, once
    return pset, dict(np.load(GOLDEN / "mnist_stn.npz"))


@pytest.mark.parametrize("jit", [None, False, True], ids=["eager", "graph", "xla"])
def test_mnist_stn_equals_the_original(original, jit):
    pset, golden = original

    def outputs(x, x_perturbed, z):
        prior, posterior = pset.prior(x), pset.posterior(x, x_perturbed)
        likelihood = pset.likelihood(x, z)
        return {
            "prior_mean": prior.mean(),
            "prior_logvar": 2 * tf.math.log(prior.stddev()),
            "posterior_mean": posterior.mean(),
            "posterior_logvar": 2 * tf.math.log(posterior.stddev()),
            "generated": likelihood.mean(),
            "reconstruction_loss": -likelihood.log_prob(x_perturbed),
            "kl": posterior.kl_divergence(prior),
        }

    if jit is not None:
        outputs = tf.function(outputs, jit_compile=jit, autograph=False)
    found = outputs(*(tf.constant(golden[k]) for k in ("x", "x_perturbed", "z")))
    for name, value in found.items():
        losses = name in ("reconstruction_loss", "kl")
        tolerance = {"rtol": 1e-3} if losses else {"atol": 1e-4, "rtol": 0}
        np.testing.assert_allclose(value, golden[name], err_msg=name, **tolerance)
    std = tf.exp(golden["posterior_logvar"] / 2)
    z = golden["posterior_mean"] + std * golden["noise"]
    np.testing.assert_allclose(z, golden["z"], atol=1e-4)


def test_mnist_stn_equals_the_original_with_batch_statistics(original):
    pset, golden = original
    weights = pset.get_weights()  # training moves the running statistics
    prior = pset.prior(golden["x"], training=True)
    image = pset.likelihood(golden["x"], golden["z"], training=True).mean()
    pset.set_weights(weights)
    np.testing.assert_allclose(prior.mean(), golden["train_mode_prior_mean"], atol=1e-4)
    np.testing.assert_allclose(image, golden["train_mode_generated"], atol=1e-4)

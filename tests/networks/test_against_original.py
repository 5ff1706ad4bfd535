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
from lps_tf.serving import original

GOLDEN = Path(__file__).parents[1] / "golden"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text())
# Eager at once; compiled among the slow tests.
JIT = [
    pytest.param(None, id="eager"),
    pytest.param(False, id="graph", marks=pytest.mark.slow),
    pytest.param(True, id="xla", marks=pytest.mark.slow),
]
MI_UNET = {
    "channels": (4, 8, 16, 32, 64),
    "latents": (6, 5, 4, 3, 2),
    "pool": ((20, 30), (10, 15), (5, 7), (2, 3), (1, 1)),
}
# The golden file, the network and its sizes there.
CASES = {
    "mnist_fc": ("mnist_fc", {}),
    "mnist_conv": ("mnist_conv", {}),
    "mnist_stn": ("mnist_stn", {}),
    "cifar10_residual_small": (
        "cifar10_residual",
        {"latent_dim": 16, "blocks": 2, "wide": 12, "narrow": 5},
    ),
    "mi_unet_small_same": ("mi_unet", MI_UNET),
    "mi_unet_small_double": ("mi_unet", MI_UNET),  # the same weights, a larger image
}


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


def state_dict(file):
    shapes = MANIFEST["models"][file]
    state = {name: original_weight(name, shape) for name, shape in shapes.items()}
    if "0.mu" in state:  # the input normalisation keeps its values
        state["0.mu"] = np.reshape((0.4914, 0.4822, 0.4465), (3, 1, 1))
        state["0.std"] = np.reshape((0.2023, 0.1994, 0.2010), (3, 1, 1))
    return state


@pytest.fixture(scope="module", params=CASES)
def case(request):
    network, sizes = CASES[request.param]
    pset = original.from_state_dict(state_dict(request.param), network, **sizes)
    golden = dict(np.load(GOLDEN / f"{request.param}.npz"))
    return pset, golden


def flat(value):
    return np.reshape(value, (len(value), -1))


@pytest.mark.parametrize("jit", JIT)
def test_outputs_equal_the_original(case, jit):
    pset, golden = case

    def outputs(x, x_perturbed, z):
        prior, posterior = pset.prior(x), pset.posterior(x, x_perturbed)
        generated = pset.likelihood(x, z).mean()
        likelihood = lps.likelihoods.LIKELIHOODS[pset.likelihood_name]
        return {
            "prior_mean": prior.mean(),
            "prior_logvar": 2 * tf.math.log(prior.stddev()),
            "posterior_mean": posterior.mean(),
            "posterior_logvar": 2 * tf.math.log(posterior.stddev()),
            "generated": generated,
            "reconstruction_loss": likelihood.reconstruction(generated, x_perturbed),
            "kl": posterior.kl_divergence(prior),
        }

    if jit is not None:
        outputs = tf.function(outputs, jit_compile=jit, autograph=False)
    x, x_perturbed = tf.constant(golden["x"]), tf.constant(golden["x_perturbed"])
    found = outputs(x, x_perturbed, tf.constant(flat(golden["z"])))
    for name, value in found.items():
        losses = name in ("reconstruction_loss", "kl")
        tolerance = {"rtol": 1e-3} if losses else {"atol": 1e-4, "rtol": 0}
        np.testing.assert_allclose(
            flat(value), flat(golden[name]), err_msg=name, **tolerance
        )


@pytest.mark.parametrize("jit", JIT)
def test_outputs_equal_the_original_with_batch_statistics(case, jit):
    pset, golden = case
    names = [key for key in golden if key.startswith("train_mode_")]
    assert {"train_mode_prior_mean", "train_mode_generated"} <= set(names)

    def outputs(x, x_perturbed, z):
        prior = pset.prior(x, training=True)
        posterior = pset.posterior(x, x_perturbed, training=True)
        return {
            "train_mode_prior_mean": prior.mean(),
            "train_mode_prior_logvar": 2 * tf.math.log(prior.stddev()),
            "train_mode_posterior_mean": posterior.mean(),
            "train_mode_posterior_logvar": 2 * tf.math.log(posterior.stddev()),
            "train_mode_generated": pset.likelihood(x, z, training=True).mean(),
        }

    if jit is not None:
        outputs = tf.function(outputs, jit_compile=jit, autograph=False)
    weights = pset.get_weights()  # training moves the running statistics
    found = outputs(
        *(tf.constant(golden[k]) for k in ("x", "x_perturbed")),
        tf.constant(flat(golden["z"])),
    )
    pset.set_weights(weights)
    for name in names:
        np.testing.assert_allclose(
            flat(found[name]), flat(golden[name]), atol=1e-4, err_msg=name
        )


def test_perturb_conditions_once_and_decodes_the_same(case):
    pset, golden = case
    conditioned = pset.condition(golden["x"])
    u = (flat(golden["z"]) - conditioned.mean) / conditioned.std
    image = pset.decode(conditioned, u)
    np.testing.assert_allclose(image, golden["generated"], atol=1e-4)


CLASSIFIERS = {
    "classifier_mnist_conv": ("classifier_mnist_conv", {}),
    "classifier_wide_resnet_16_2": (
        "classifier_wide_resnet",
        {"depth": 16, "width": 2},
    ),
    "segmenter_unet": ("segmenter_unet", {"num_classes": 7}),
}


def golden_classifier(file):
    network, sizes = CLASSIFIERS[file]
    return original.from_state_dict(state_dict(file), network, **sizes)


@pytest.mark.parametrize("jit", JIT)
@pytest.mark.parametrize("file", CLASSIFIERS)
def test_classifiers_equal_the_original(file, jit):
    model = golden_classifier(file)
    golden = np.load(GOLDEN / f"{file}.npz")
    call = model
    if jit is not None:
        call = tf.function(model, jit_compile=jit, autograph=False)
    logits = call(tf.constant(golden["x"]), training=False)
    np.testing.assert_allclose(logits, golden["logits"], atol=2e-4, rtol=1e-4)
    if "train_mode_logits" in golden:
        logits = call(tf.constant(golden["x"]), training=True)
        expected = golden["train_mode_logits"]
        np.testing.assert_allclose(logits, expected, atol=5e-4, rtol=1e-3)


def test_latent_pgd_follows_the_original_trace():
    file = "cifar10_residual_small"
    network, sizes = CASES[file]
    pset = original.from_state_dict(state_dict(file), network, **sizes)
    classifier = golden_classifier("classifier_wide_resnet_16_2")
    golden = np.load(GOLDEN / "latent_pgd_trace.npz")
    conditioned, labels = pset.condition(golden["x"]), golden["labels"]

    def objective(u):
        logits = classifier(pset.decode(conditioned, u), training=False)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits), None

    u = tf.constant(golden["start"])
    for i in range(5):
        losses, _, direction = lps.latent.ascent_direction(objective, u)
        u = lps.latent.project(u + 0.6 * direction, 1.3)
        np.testing.assert_allclose(losses, golden["losses"][i], rtol=1e-2)
        if i == 0:  # later steps amplify rounding
            np.testing.assert_allclose(direction, golden["direction"][0], atol=1e-3)
            np.testing.assert_allclose(u, golden["after"][0], atol=1e-3)


def test_names_of_data_parallel_are_understood():
    state = {
        k.replace("prior.", "prior.module."): v
        for k, v in state_dict("mnist_fc").items()
    }
    pset = original.from_state_dict(state, "mnist_fc")
    golden = np.load(GOLDEN / "mnist_fc.npz")
    np.testing.assert_allclose(
        pset.prior(golden["x"]).mean(), flat(golden["prior_mean"]), atol=1e-4
    )


def test_every_tensor_is_used_once_or_named():
    state = state_dict("mnist_fc")
    state["prior.fc9.weight"] = state.pop("prior.fc1.weight")
    state["generator.fc4.bias"] = state["generator.fc4.bias"][:5]
    with pytest.raises(ValueError, match="missing") as error:
        original.from_state_dict(state, "mnist_fc")
    message = str(error.value)
    assert "missing: prior.fc1.weight" in message
    assert "unexpected: prior.fc9.weight" in message
    assert r"generator.fc4.bias: (5,) instead of (784,)" in message
    with pytest.raises(ValueError, match="`network` must be one of"):
        original.from_state_dict(state, "vgg")
    with pytest.raises(ValueError, match="of another shape"):
        original.from_state_dict(state_dict("mnist_stn"), "mnist_stn", latent_dim=8)


@pytest.mark.slow
@pytest.mark.parametrize("file", CASES)
def test_saved_and_reloaded_networks_are_the_same(file, tmp_path):
    import keras

    network, sizes = CASES[file]
    pset = original.from_state_dict(state_dict(file), network, **sizes)
    pset.save(tmp_path / "set.keras")
    again = keras.models.load_model(tmp_path / "set.keras")
    x = np.load(GOLDEN / f"{file}.npz")["x"]
    u = np.ones((len(x), pset.latent_dim), np.float32)
    np.testing.assert_array_equal(pset.perturb(x, u), again.perturb(x, u))

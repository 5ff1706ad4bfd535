"""The benchmarks compare the same networks."""

import keras
import numpy as np
import pytest

from lps_tf.serving import original
from tests.networks.test_against_original import CASES, CLASSIFIERS, GOLDEN, state_dict

# The peers in PyTorch. What they are held to is what test_original.py holds ours to.

SETS = ("cifar10_residual_small", "mi_unet_small_double", "mi_unet_small_same")
SETS += ("mnist_conv", "mnist_stn")


def with_original_weights(name, model):
    torch = pytest.importorskip("torch")
    weights = {k: torch.tensor(v) for k, v in state_dict(name).items()}
    model.load_state_dict(weights, strict=True)
    return model


def peer_set(name):
    pytest.importorskip("torch")
    from tests.benchmarks import torch_networks

    network, sizes = CASES[name]
    model = getattr(torch_networks, network)(**sizes)
    golden = {k: channels_first(v) for k, v in np.load(GOLDEN / f"{name}.npz").items()}
    return with_original_weights(name, model), golden


def channels_first(array):
    import torch

    array = np.moveaxis(array, -1, 1) if array.ndim == 4 else array
    return torch.tensor(np.ascontiguousarray(array))


def assert_close(found, expected, **tolerance):
    found, expected = found.detach().numpy(), expected.numpy()
    np.testing.assert_allclose(found, expected, **tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_peer_sets_equal_the_original(name):
    model, golden = peer_set(name)
    x, x_perturbed = golden["x"], golden["x_perturbed"]
    model.eval()
    found = {}
    found["prior_mean"], found["prior_logvar"] = model.prior(x)
    posterior = model.posterior(x, x_perturbed)
    found["posterior_mean"], found["posterior_logvar"] = posterior
    found["generated"] = model.generator(x, golden["z"])
    for key, value in found.items():
        assert_close(value, golden[key], atol=1e-4, rtol=0, err_msg=key)
    reconstruction, kl = model(x, x_perturbed, golden["noise"])
    assert_close(reconstruction, golden["reconstruction_loss"], rtol=1e-3)
    assert_close(kl, golden["kl"], rtol=1e-3)
    model.train()
    assert_close(model.prior(x)[0], golden["train_mode_prior_mean"], atol=1e-4)
    image = model.generator(x, golden["z"])
    assert_close(image, golden["train_mode_generated"], atol=1e-4)


PEER_CLASSIFIERS = {
    "classifier_wide_resnet_16_2": "wide_resnet",
    "segmenter_unet": "unet",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PEER_CLASSIFIERS)
def test_peer_classifiers_equal_the_original(name):
    pytest.importorskip("torch")
    from tests.benchmarks import torch_networks

    _, sizes = CLASSIFIERS[name]
    model = getattr(torch_networks, PEER_CLASSIFIERS[name])(**sizes)
    with_original_weights(name, model)
    golden = np.load(GOLDEN / f"{name}.npz")
    x, expected = channels_first(golden["x"]), channels_first(golden["logits"])
    assert_close(model.eval()(x), expected, atol=2e-4, rtol=1e-4)
    expected = channels_first(golden["train_mode_logits"])
    assert_close(model.train()(x), expected, atol=5e-4, rtol=1e-3)


def ramps(shape):
    """Images that rise evenly to the right and downwards."""
    batch, height, width, channels = shape
    right, down = np.random.RandomState(0).uniform(0, 0.5, (2, batch, 1, 1, channels))
    columns, rows = np.linspace(0, 1, width), np.linspace(0, 1, height)
    ramps = right * columns[:, None] + down * rows[:, None, None]
    return ramps.astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_a_training_step_is_the_same_on_both_sides(name, monkeypatch):
    """The same weights, batch and noise give the same loss and the same gradients."""
    model, _ = peer_set(name)
    import torch

    from tests.benchmarks.torch_cvae import training_step

    network, sizes = CASES[name]
    pset = original.from_state_dict(state_dict(name), network, **sizes)
    before, start = pset.get_weights(), [w.numpy() for w in pset.trainable_weights]
    golden = np.load(GOLDEN / f"{name}.npz")
    x, x_perturbed = golden["x"], golden["x_perturbed"]
    if name == "mnist_stn":
        # The gradient of bilinear sampling jumps from pixel to pixel, so rounding would
        # decide it; on ramps it does not.
        x = ramps(x.shape)
    posterior = pset.posterior(x, x_perturbed, training=True)
    mean, std = posterior.mean().numpy(), posterior.stddev().numpy()
    pset.set_weights(before)

    # Plain descent of rate 1 makes the step the gradient.
    optimizer = keras.optimizers.SGD(1.0)
    pset.compile(optimizer, beta=0.3, jit_compile=False, run_eagerly=True)
    drawn, decode = [], pset.generator.decode

    def decode_and_tell(features, z, training):
        drawn.append(z.numpy())
        return decode(features, z, training=training)

    monkeypatch.setattr(pset.generator, "decode", decode_and_tell)
    history = pset.fit(x, x_perturbed, batch_size=len(x), shuffle=False, verbose=0)
    noise = np.reshape((drawn[0] - mean) / std, golden["noise"].shape)
    noise = channels_first(noise)  # where the latent is a map
    monkeypatch.setattr(torch, "randn_like", lambda _: noise)
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    loss = training_step(model, optimizer, *map(channels_first, (x, x_perturbed)), 0.3)
    assert history.history["loss"][0] * len(x) == pytest.approx(loss, rel=1e-3)

    state = {k: v.numpy() for k, v in model.state_dict().items()}
    peer = original.from_state_dict(state, network, **sizes)
    weights = zip(pset.trainable_weights, peer.trainable_weights, start, strict=True)
    for ours, theirs, old in weights:
        expected = old - theirs.numpy()
        error = np.linalg.norm(old - ours.numpy() - expected)
        # Rounding turns single ReLUs on or off. A bias in front of a batch norm has no
        # gradient but rounding.
        assert error < 0.02 + 0.02 * np.linalg.norm(expected), ours.path


@pytest.mark.slow
def test_both_sides_of_a_training_benchmark_learn():
    pytest.importorskip("torch")
    from tests.benchmarks.bench_training import our_step, peer_step

    sizes = ("mnist_stn", (42, 42, 1), 8)
    for step in (our_step(*sizes), peer_step(*sizes, compiled=False)):
        losses = [step() for _ in range(20)]
        assert losses[-1] < losses[0]

"""A set from its SavedModel alone does what the set itself does."""

import logging

import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from lps_tf.sets.parametric import Brightness
from lps_tf.sets.protocol import EncodingSet, LatentSet, decode_compiled

U = np.random.RandomState(0).randn(6, 4).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tiny_set, tmp_path_factory):
    return lps.export(tiny_set, tmp_path_factory.mktemp("saved") / "set")


@pytest.fixture(scope="module")
def saved(folder):
    return lps.sets.from_saved_model(folder)


def gradient(perturb, x, u):
    """The gradient in u of a sum over pixels that is not symmetric in them."""
    u = tf.constant(u)
    with tf.GradientTape() as tape:
        tape.watch(u)
        image = perturb(x, u)
        total = tf.reduce_sum(
            image * tf.linspace(0.0, 1.0, image.shape[1])[:, None, None]
        )
    return tape.gradient(total, u)


def test_it_is_a_set(saved, tiny_set, images):
    assert isinstance(saved, LatentSet) and isinstance(saved, EncodingSet)
    assert saved.latent_dim == 4 and saved.image_shape == (12, 12, 1)
    assert saved.radius == 2.0
    assert repr(saved) == "EncodingSavedSet('set', latent_dim=4, radius=2)"
    np.testing.assert_allclose(
        saved.perturb(images, U), tiny_set.perturb(images, U), atol=1e-5
    )
    other = images[:, ::-1]
    np.testing.assert_allclose(
        saved.encode(images, other), tiny_set.encode(images, other), atol=1e-4
    )


@pytest.mark.slow
def test_gradients_go_through_perturb(saved, tiny_set, images):
    want = gradient(tiny_set.perturb, images, U)
    assert np.abs(want).max() > 1e-2
    np.testing.assert_allclose(gradient(saved.perturb, images, U), want, atol=1e-4)
    # Also where nothing is compiled by XLA.
    plain = gradient(lambda x, u: saved.decode(saved.condition(x), u), images, U)
    np.testing.assert_allclose(plain, want, atol=1e-4)


@pytest.mark.slow
def test_an_attack_finds_in_it_what_it_finds_in_the_set(
    saved, tiny_set, tiny_classifier, images, labels
):
    losses = []
    for pset in (saved, tiny_set):
        attack = lps.LatentPGD(pset, radius=1.0, steps=3, seed=0)
        x = attack(tiny_classifier, tf.constant(images), tf.constant(labels), [0, 1])
        log = tf.nn.log_softmax(tiny_classifier(x))
        losses.append(-tf.gather(log, labels, batch_dims=1).numpy())
    np.testing.assert_allclose(*losses, atol=1e-3)


@pytest.mark.slow
def test_it_can_be_exported_again(saved, images, tmp_path):
    again = lps.sets.from_saved_model(lps.export(saved, tmp_path / "again"))
    np.testing.assert_allclose(
        again.perturb(images, U), saved.perturb(images, U), atol=1e-6
    )


def test_a_set_without_encoder(images, tmp_path):
    pset = Brightness((12, 12, 1), 0.3)
    folder = lps.export(pset, tmp_path / "set")
    saved = lps.sets.from_saved_model(folder)
    assert isinstance(saved, LatentSet) and not isinstance(saved, EncodingSet)
    u = np.ones((6, 1), np.float32)
    np.testing.assert_allclose(saved.perturb(images, u), pset.perturb(images, u))
    assert saved.digest() == lps.sets.from_saved_model(folder).digest()
    other = lps.export(Brightness((12, 12, 1), 0.2), tmp_path / "other")
    assert lps.sets.from_saved_model(other).digest() != saved.digest()


@pytest.fixture(scope="module")
def scenes():
    """The one of saved_models/ with most custom gradients: a U-Net, of any size."""
    return "mi_mip5"


@pytest.mark.slow
def test_nothing_is_said_of_gradients_on_loading(scenes, caplog):
    with caplog.at_level(logging.WARNING):
        pset = lps.sets.from_saved_model(scenes)
    assert not caplog.records
    learned = lps.PerturbationSet.from_preset(scenes)
    x = np.random.RandomState(0).uniform(size=(2, 62, 93, 3)).astype(np.float32)
    u = np.random.RandomState(1).randn(2, pset.latent_dim).astype(np.float32)
    np.testing.assert_allclose(pset.perturb(x, u), learned.perturb(x, u), atol=1e-5)
    want = gradient(lambda x, u: learned.decode(learned.condition(x), u), x, u)
    found = gradient(lambda x, u: pset.decode(pset.condition(x), u), x, u)
    np.testing.assert_allclose(found, want, atol=1e-3 * np.abs(want).max())


def test_what_is_exported_loads_without_a_word(folder, caplog):
    # With TensorFlow alone, that is: nothing of ours hides its warnings.
    with caplog.at_level(logging.WARNING):
        tf.saved_model.load(folder)
    assert not caplog.records


def test_compiled_by_xla_it_gives_the_same(saved, images):
    conditioned = saved.condition(images)
    np.testing.assert_allclose(
        decode_compiled(saved, conditioned, tf.constant(U)),
        saved.decode(conditioned, tf.constant(U)),
        atol=1e-5,
    )


def test_errors(saved, tiny_classifier, images, tmp_path):
    with pytest.raises(ValueError, match=r"must have shape \(batch, 4\)"):
        saved.perturb(images, U[:, :2])
    with pytest.raises(ValueError, match="12, 12, 1"):
        saved.perturb(images[:, :8], U)
    with pytest.raises(AttributeError, match="`radius` of a"):
        saved.radius = 3.0
    with pytest.raises(ValueError, match=r"folder with saved_model\.pb"):
        lps.sets.from_saved_model(tmp_path)
    lps.export(tiny_classifier, tmp_path / "classifier")
    with pytest.raises(ValueError, match=r"signature perturb\(x, u\).*serve"):
        lps.sets.from_saved_model(tmp_path / "classifier")

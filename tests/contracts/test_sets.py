"""What a set of any network does: any batch, half precision, XLA, files."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from tests.contracts.models import (
    FAST_SETS,
    PRECISIONS,
    SETS,
    new_set,
    pairs_of,
    policy,
)


def test_there_is_a_case_for_every_network():
    assert set(SETS) == set(lps.networks.NETWORKS)


@pytest.mark.parametrize("name", FAST_SETS)
def test_an_image_comes_out_the_same_in_any_batch(name):
    pset = new_set(name)
    x, x_perturbed = pairs_of(SETS[name][1], 5)
    u = pset.encode(x, x_perturbed)
    images = pset.perturb(x, u)
    assert images.shape == x.shape and images.dtype == tf.float32
    for n in (1, 3):
        np.testing.assert_allclose(
            pset.encode(x[:n], x_perturbed[:n]), u[:n], atol=2e-4
        )
        np.testing.assert_allclose(pset.perturb(x[:n], u[:n]), images[:n], atol=1e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", FAST_SETS)
def test_half_precision_is_close_and_float32_where_it_matters(name, precision):
    full = new_set(name)
    with policy(precision):
        half = new_set(name)
    half.set_weights(full.get_weights())
    x, x_perturbed = (tf.constant(v) for v in pairs_of(SETS[name][1]))
    z = full.prior(x).sample(seed=[0, 1])
    for pset in (full, half):
        for value in pset.elbo_terms(x, x_perturbed, training=True):
            assert value.dtype == tf.float32 and np.isfinite(value).all()
        posterior = pset.posterior(x, x_perturbed)
        assert posterior.mean().dtype == posterior.stddev().dtype == tf.float32
        assert pset.likelihood(x, z).mean().dtype == tf.float32
    half.set_weights(full.get_weights())  # their batch statistics have moved apart
    found = tf.reduce_mean(half.likelihood(x, z).mean() - full.likelihood(x, z).mean())
    assert abs(float(found)) < 0.02
    spread = full.posterior(x, x_perturbed).stddev()
    np.testing.assert_allclose(
        half.posterior(x, x_perturbed).stddev(), spread, rtol=0.1, atol=0.02
    )
    # The network did compute in half precision: otherwise nothing was tested.
    assert half.prior_network.compute_dtype == precision.removeprefix("mixed_")
    assert {w.dtype for w in half.trainable_variables} == {"float32"}


# mi_unet takes half a minute to compile for training; the golden tests compile it.
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(SETS) - {"mi_unet"}))
def test_fit_with_and_without_xla_gives_the_same_weights(name):
    x, x_perturbed = pairs_of(SETS[name][1])
    losses, weights = [], []
    for jit_compile in (False, True):
        pset = new_set(name)
        # Adam would make steps of equal length out of gradients that are rounding.
        pset.compile(keras.optimizers.SGD(1e-5), jit_compile=jit_compile)
        start = pset.get_weights()
        history = pset.fit(x, x_perturbed, shuffle=False, verbose=0)
        losses += history.history["loss"]
        weights.append(pset.get_weights())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    changes = [[w - s for w, s in zip(ws, start, strict=True)] for ws in weights]
    scale = max(np.abs(change).max() for change in changes[0])
    assert scale > 1e-6
    for one, other in zip(*changes, strict=True):
        np.testing.assert_allclose(one, other, atol=0.01 * scale)


@pytest.mark.parametrize("name", FAST_SETS)
def test_networks_are_what_their_config_says(name):
    pset = new_set(name)
    again = lps.PerturbationSet.from_config(pset.get_config())
    again.build((None, *SETS[name][1]))
    again.set_weights(pset.get_weights())
    x, x_perturbed = pairs_of(SETS[name][1])
    np.testing.assert_array_equal(
        again.encode(x, x_perturbed), pset.encode(x, x_perturbed)
    )
    for mine, theirs in zip(again.layers, pset.layers, strict=True):
        assert mine.get_config() == theirs.get_config()


@pytest.mark.parametrize("name", FAST_SETS)
def test_a_set_reloads_from_its_file(name, tmp_path):
    pset = new_set(name)
    pset.radius = 1.5
    pset.save(tmp_path / "set.keras")
    again = keras.models.load_model(tmp_path / "set.keras")
    x, x_perturbed = pairs_of(SETS[name][1])
    u = pset.encode(x, x_perturbed)
    np.testing.assert_array_equal(again.encode(x, x_perturbed), u)
    np.testing.assert_array_equal(again.perturb(x, u), pset.perturb(x, u))
    assert again.radius == pset.radius


# Writing mi_unet is left to `test_unet_set_goes_on_at_a_larger_size...`.
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(SETS) - {"mi_unet"}))
def test_an_exported_set_does_the_same(name, tmp_path):
    pset = new_set(name)
    lps.export(pset, tmp_path / "set")
    loaded = tf.saved_model.load(tmp_path / "set")
    x, x_perturbed = pairs_of(SETS[name][1])
    u = pset.encode(x, x_perturbed)
    np.testing.assert_allclose(loaded.encode(x, x_perturbed), u, atol=1e-4)
    np.testing.assert_allclose(loaded.perturb(x, u), pset.perturb(x, u), atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(SETS) - {"mi_unet"}))
def test_perturb_is_traced_once_for_images_of_one_shape(name):
    pset = new_set(name)
    traces = []

    @tf.function
    def perturb(x, u):
        traces.append(x.shape)
        return pset.perturb(x, u)

    x, x_perturbed = (tf.constant(v) for v in pairs_of(SETS[name][1]))
    u = pset.encode(x, x_perturbed)
    for latents in (u, u + 2.0):
        expected = pset.perturb(x, latents)
        np.testing.assert_allclose(perturb(x, latents), expected, atol=1e-5)
    assert len(traces) == 1

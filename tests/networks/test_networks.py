"""What every network does: any batch, half precision, XLA, files; some any size."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from lps_tf.networks import classifiers

# The coarser half precision in the fast tests, the finer one in the slow ones.
PRECISIONS = [
    pytest.param("mixed_bfloat16"),
    pytest.param("mixed_float16", marks=pytest.mark.slow),
]
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


def test_there_is_a_case_for_every_network():
    assert set(SETS) == set(lps.networks.NETWORKS)


@pytest.mark.parametrize("name", SETS)
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
@pytest.mark.parametrize("name", SETS)
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


@pytest.mark.parametrize("name", SETS)
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


# The U-Nets: one set of weights for images of any size.


@pytest.mark.parametrize("size", [(33, 47), (66, 94), (40, 17), (71, 16)])
def test_unet_set_takes_any_size_odd_ones_too(size):
    pset = new_set("mi_unet")
    weights = pset.get_weights()
    x, x_perturbed = pairs_of((*size, 3))
    u = pset.encode(x, x_perturbed)
    assert u.shape == (4, sum(UNET["latents"]))
    images = pset.perturb(x, u)
    assert images.shape == x.shape and np.isfinite(images).all()
    # Each latent reaches the image at this size as well.
    for i in range(u.shape[1]):
        moved = pset.perturb(x, u + 3 * tf.one_hot(i, u.shape[1]))
        assert np.abs(moved - images).max() > 1e-6
    for before, after in zip(weights, pset.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.slow
def test_unet_set_goes_on_at_a_larger_size_from_the_smaller_ones_weights(tmp_path):
    def data(size):
        x, x_perturbed = pairs_of((*size, 3), 8)
        return tf.data.Dataset.from_tensor_slices((x, x_perturbed)).batch(4)

    pset = new_set("mi_unet")
    pset.compile(keras.optimizers.Adam(3e-3), beta=0.1, jit_compile=False)
    before = pset.evaluate(data((66, 94)), return_dict=True, verbose=0)
    pset.fit(data((33, 47)), epochs=25, verbose=0)
    start = pset.evaluate(data((66, 94)), return_dict=True, verbose=0)
    # What was learned on small images holds on large ones, and training goes on.
    assert start["reconstruction"] < 0.75 * before["reconstruction"]
    history = pset.fit(data((66, 94)), epochs=8, verbose=0).history
    assert history["reconstruction"][-1] < history["reconstruction"][0]
    # Files take any size as well, SavedModels among them.
    pset.save(tmp_path / "set.keras")
    again = keras.models.load_model(tmp_path / "set.keras")
    x, x_perturbed = pairs_of((66, 94, 3))
    np.testing.assert_allclose(
        again.encode(x, x_perturbed), pset.encode(x, x_perturbed), atol=1e-5
    )
    lps.export(again, tmp_path / "set")
    loaded = tf.saved_model.load(tmp_path / "set")
    for size in ((66, 94), (35, 40)):
        x, x_perturbed = pairs_of((*size, 3))
        u = pset.encode(x, x_perturbed)
        np.testing.assert_allclose(loaded.encode(x, x_perturbed), u, atol=1e-4)
        np.testing.assert_allclose(loaded.perturb(x, u), pset.perturb(x, u), atol=1e-5)
    # A set of the small size's weights alone starts a large one.
    pset.save_weights(tmp_path / "small.weights.h5")
    large = new_set("mi_unet")
    large.build((None, 66, 94, 3))
    large.load_weights(tmp_path / "small.weights.h5")
    np.testing.assert_allclose(
        large.encode(x, x_perturbed), pset.encode(x, x_perturbed), atol=1e-5
    )


def test_pairs_of_two_sizes_and_too_small_images_are_named():
    pset = new_set("mi_unet")
    x, _ = pairs_of((33, 47, 3))
    with pytest.raises(ValueError, match="must have the same shape"):
        pset.encode(x, x[:, :-1])
    with pytest.raises(ValueError, match="at least 4. Received: height=3, width=47"):
        pset.encode(x[:, :3], x[:, :3])
    with pytest.raises(ValueError, match="must hold images of shape"):
        pset.encode(x[..., :1], x[..., :1])


@pytest.mark.parametrize("levels", [2, 5])
def test_unets_have_as_many_levels_as_they_are_given(levels):
    sizes = {"channels": (4,) * levels, "latents": (2,) * levels}
    sizes["pool"] = ((3, 3),) * levels
    pset = lps.PerturbationSet.from_network("mi_unet", **sizes)
    segmenter = classifiers.Unet(3, sizes["channels"])
    smallest = 2 ** (levels - 1)
    x = pictures(2, (smallest, smallest + 1, 3))
    u = pset.encode(x, x)
    assert u.shape == (2, 2 * levels) and pset.perturb(x, u).shape == x.shape
    assert segmenter(x).shape == (*x.shape[:3], 3)
    assert classifiers.Unet(1, sizes["channels"])(x).shape == (*x.shape[:3], 1)
    with pytest.raises(ValueError, match=f"halves its images {levels - 1} times"):
        segmenter(x[:, 1:])


def test_unets_without_matching_levels_are_refused():
    with pytest.raises(ValueError, match="one entry per level.*latents"):
        lps.PerturbationSet.from_network("mi_unet", **{**UNET, "latents": (3, 2)})
    with pytest.raises(ValueError, match=r"at least two levels.*\(4,\)"):
        classifiers.Unet(3, (4,))


# Classifiers.

CLASSIFIERS = {
    "small_cnn": lambda: classifiers.small_cnn((12, 12, 1), 3, (4,), 8),
    "mnist_conv": lambda: classifiers.mnist_conv((12, 20, 1), 3, 8),
    "wide_resnet": lambda: classifiers.wide_resnet((16, 20, 3), 3, 10, 1),
    "unet": lambda: classifiers.Unet(3, (4, 6, 8)),
}


def new_classifier(name):
    keras.utils.set_random_seed(0)
    model = CLASSIFIERS[name]()
    shape = model.input_shape[1:] if model.built else (33, 47, 3)
    model.build((None, *shape))
    return model, shape


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_gives_the_same_logits_in_any_batch_and_under_xla(name):
    model, shape = new_classifier(name)
    x = pictures(5, shape)
    logits = model(x, training=False)
    assert logits.shape.is_compatible_with(model.output_shape)
    assert len(logits) == 5 and model.output_shape[-1] == 3
    np.testing.assert_allclose(model(x[:2], training=False), logits[:2], atol=1e-5)
    compiled = tf.function(model, jit_compile=True, autograph=False)
    np.testing.assert_allclose(compiled(x, training=False), logits, atol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifiers_logits_are_float32_in_half_precision(name, precision):
    full, shape = new_classifier(name)
    with policy(precision):
        half, _ = new_classifier(name)
    half.set_weights(full.get_weights())
    x = pictures(5, shape)
    logits = full(x, training=False).numpy()
    found = half(x, training=False)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, logits, atol=0.1 * np.abs(logits).max())
    assert np.abs(found - logits).max() > 0  # it did compute in half precision


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_reloads_from_its_file(name, tmp_path):
    model, shape = new_classifier(name)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = pictures(5, shape)
    np.testing.assert_array_equal(model(x, training=False), again(x, training=False))
    assert again.output_shape == model.output_shape


@pytest.mark.parametrize(
    "size", [(33, 47), pytest.param((40, 17), marks=pytest.mark.slow)]
)
def test_the_segmenter_takes_any_size_and_exports(size, tmp_path):
    model, _ = new_classifier("unet")
    weights = model.get_weights()
    x = pictures(2, (*size, 3))
    logits = model(x, training=False)
    assert logits.shape == (2, *size, 3)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    lps.export(model, tmp_path / "segmenter")
    loaded = tf.saved_model.load(tmp_path / "segmenter")
    np.testing.assert_allclose(loaded.serve(x), logits, atol=1e-5)

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from lps_tf.sets import conditional_vae
from lps_tf.sets.calibration import choose


def new_set(**sizes):
    sizes = {"latent_dim": 4, "transformers": 2, "localisation": (16, 8), **sizes}
    return lps.PerturbationSet.from_network("mnist_stn", **sizes)


def pair_batches(images, copies=4, batch_size=6):
    x = np.tile(images, (copies, 1, 1, 1))
    x_perturbed = np.roll(x, 1, axis=2)
    data = tf.data.Dataset.from_tensor_slices((x, x_perturbed))
    return data.batch(batch_size, drop_remainder=True)


@pytest.mark.parametrize("compiled", [False, True])
def test_images_and_latents_of_other_numbers_are_refused(tiny_set, images, compiled):
    perturb = tf.function(tiny_set.perturb) if compiled else tiny_set.perturb
    for x, u in ((images[:1], np.zeros((3, 4))), (images[:3], np.zeros((2, 4)))):
        message = f"same batch.*Received: {len(x)} images and {len(u)} latents"
        with pytest.raises(ValueError, match=message):
            perturb(tf.constant(x), tf.constant(u, tf.float32))


def test_kl_equals_the_formula(tiny_set, images):
    x, x_perturbed = images, np.roll(images, 1, 2)
    prior, posterior = tiny_set.prior(x), tiny_set.posterior(x, x_perturbed)
    mp, sp = prior.distribution.loc.numpy(), prior.distribution.scale.numpy()
    mq, sq = posterior.distribution.loc.numpy(), posterior.distribution.scale.numpy()
    expected = np.log(sp / sq) + (sq**2 + (mq - mp) ** 2) / (2 * sp**2) - 0.5
    _, kl = tiny_set.elbo_terms(x, x_perturbed)
    np.testing.assert_allclose(kl, expected.sum(1), rtol=1e-4)


def test_latent_is_standardised_by_the_standard_deviation(tiny_set, images):
    # Defect 2 of the original: it divides by the log-variance.
    x, x_perturbed = images, np.roll(images, 1, 2)
    mean, log_variance = (t.numpy() for t in tiny_set.prior_network(x))
    stacked = np.concatenate([x, x_perturbed], -1)
    posterior_mean = tiny_set.recognition_network(stacked)[0].numpy()
    expected = (posterior_mean - mean) / np.exp(log_variance / 2)
    u = tiny_set.encode(x, x_perturbed)
    np.testing.assert_allclose(u, expected, atol=1e-4, rtol=1e-4)
    # Encoding and perturbing are consistent: u names the posterior's mean.
    decoded = tiny_set.likelihood(x, posterior_mean).mean()
    np.testing.assert_allclose(tiny_set.perturb(x, u), decoded, atol=1e-5)


def test_call_is_the_centre(tiny_set, images):
    centre = tiny_set.perturb(images, np.zeros((len(images), 4), np.float32))
    np.testing.assert_allclose(tiny_set(images), centre, atol=1e-5)


def test_sample_stays_in_the_ball_and_is_reproducible(tiny_set, images):
    one = tiny_set.sample(images, seed=3)
    assert one.shape == images.shape
    np.testing.assert_array_equal(one, tiny_set.sample(images, seed=3))
    assert np.abs(one - tiny_set.sample(images, seed=4)).max() > 1e-4
    several = tiny_set.sample(images, 3)
    assert several.shape == (3, *images.shape)
    # In a ball of no size everything is the centre.
    nearly = tiny_set.sample(images, radius=1e-6, seed=0)
    np.testing.assert_allclose(nearly, tiny_set(images), atol=1e-4)


def test_interpolation_has_the_given_corners(tiny_set, images):
    corners = np.random.RandomState(0).randn(4, 4).astype(np.float32)
    grid = tiny_set.interpolate(images[:1], corners, size=5)
    assert grid.shape == (5, 5, 12, 12, 1)
    expected = tiny_set.perturb(np.repeat(images[:1], 4, 0), corners)
    np.testing.assert_allclose(
        [grid[0, 0], grid[0, -1], grid[-1, 0], grid[-1, -1]], expected, atol=1e-5
    )
    middle = tiny_set.perturb(images[:1], corners.mean(0, keepdims=True))
    np.testing.assert_allclose(grid[2, 2], middle[0], atol=1e-5)


def test_saved_set_reloads_the_same(tiny_set, images, tmp_path):
    tiny_set.calibrate(pair_batches(images), quantile=0.9)
    tiny_set.save(tmp_path / "set.keras")
    again = keras.models.load_model(tmp_path / "set.keras")
    assert again.radius == pytest.approx(tiny_set.radius)
    assert again.calibration == tiny_set.calibration
    u = np.ones((len(images), 4), np.float32)
    np.testing.assert_array_equal(again.perturb(images, u), tiny_set.perturb(images, u))
    x_perturbed = np.roll(images, 1, 2)
    np.testing.assert_array_equal(
        again.encode(images, x_perturbed), tiny_set.encode(images, x_perturbed)
    )


def test_weights_alone_carry_the_radius(tiny_set, images, tmp_path):
    tiny_set.save_weights(tmp_path / "set.weights.h5")
    other = new_set()
    other.build((None, 12, 12, 1))
    assert other.radius is None
    other.load_weights(tmp_path / "set.weights.h5")
    assert other.radius == pytest.approx(tiny_set.radius)


def test_checkpoint_of_other_sizes_is_refused(tiny_set, tmp_path):
    tiny_set.save_weights(tmp_path / "set.weights.h5")
    other = new_set(latent_dim=5)
    other.build((None, 12, 12, 1))
    before = other.get_weights()
    with pytest.raises(ValueError, match="does not fit this model"):
        other.load_weights(tmp_path / "set.weights.h5")
    for a, b in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_fit_learns_and_follows_the_schedule_of_beta(images):
    pset = new_set()
    beta = lps.schedules.PiecewiseLinear([0, 4], [0, 1])
    pset.compile(keras.optimizers.Adam(1e-2), beta=beta)
    pairs = pair_batches(images)
    history = pset.fit(pairs, validation_data=pairs, epochs=4, verbose=0).history
    assert set(history) >= {"loss", "reconstruction", "kl", "val_loss", "val_kl"}
    assert history["reconstruction"][-1] < history["reconstruction"][0]
    for epoch in range(4):
        loss = history["reconstruction"][epoch] + epoch / 4 * history["kl"][epoch]
        assert history["loss"][epoch] == pytest.approx(loss, rel=1e-4)
        # Validation has the final beta from the first epoch on.
        val_loss = history["val_reconstruction"][epoch] + history["val_kl"][epoch]
        assert history["val_loss"][epoch] == pytest.approx(val_loss, rel=1e-4)


@pytest.mark.slow
def test_training_with_and_without_xla_agrees(images):
    losses = []
    for jit in (True, False):
        keras.utils.set_random_seed(1)
        pset = new_set()
        pset.compile(keras.optimizers.Adam(1e-3), jit_compile=jit)
        history = pset.fit(pair_batches(images), epochs=2, verbose=0).history
        losses.append(history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_long_training_is_compiled(images, monkeypatch):
    monkeypatch.setattr(conditional_vae, "_WORTH_COMPILING", 5)
    monkeypatch.setattr(keras.Model, "fit", lambda *args, **options: None)
    x, compiled = images[:4], []
    pairs = tf.data.Dataset.from_tensor_slices((x, x)).batch(2)
    pset = new_set()
    pset.compile()
    for data, length in (
        ((pairs,), {}),
        ((pairs,), {"epochs": 3}),
        ((pairs.repeat(),), {"steps_per_epoch": 4}),
        ((pairs.repeat(),), {"steps_per_epoch": 5}),
        ((x, x), {"batch_size": 1}),
        ((x, x), {"batch_size": 1, "epochs": 2}),
    ):
        pset.fit(*data, **length, verbose=0)
        compiled.append(pset.jit_compile)
    assert compiled == [False, True] * 3
    for choice in (True, False):
        pset.compile(jit_compile=choice)
        pset.fit(pairs, epochs=1 if choice else 3, verbose=0)
        assert pset.jit_compile == choice


@pytest.mark.slow
def test_interrupted_fit_resumes_to_the_same_result(images, tmp_path):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def fit(*callbacks):
        keras.utils.set_random_seed(1)
        pset = new_set()
        beta = lps.schedules.PiecewiseLinear([0, 3], [0, 1])
        pset.compile(keras.optimizers.Adam(1e-3), beta=beta, jit_compile=False)
        pset.fit(pair_batches(images), epochs=4, verbose=0, callbacks=[*callbacks])
        return pset

    def backup():
        return keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))

    whole = fit()
    with pytest.raises(KeyboardInterrupt):
        fit(backup(), Interrupt())
    resumed = fit(backup())
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.slow
def test_compiled_set_reloads_compiled(images, tmp_path):
    pset = new_set()
    rate = lps.schedules.PiecewiseLinear([0, 1, 2], [0, 1e-3, 0], 4)
    beta = lps.schedules.PiecewiseLinear([0, 2], [0, 1])
    pset.compile(keras.optimizers.Adam(rate), beta=beta, jit_compile=False)
    pset.fit(pair_batches(images), epochs=1, verbose=0)
    pset.save(tmp_path / "set.keras")
    again = keras.models.load_model(tmp_path / "set.keras")
    assert again.beta.values == [0, 1]
    assert int(again.optimizer.iterations) == 4
    losses = [
        p.fit(pair_batches(images), initial_epoch=1, epochs=2, verbose=0).history
        for p in (pset, again)
    ]
    assert losses[0]["loss"] == pytest.approx(losses[1]["loss"], rel=1e-4)


def test_calibration_methods():
    rng = np.random.RandomState(0)
    norms, image = rng.rand(60), np.repeat(np.arange(20), 3)
    assert choose(norms, image)["radius"] == norms.max()
    assert choose(norms, image, 0.5)["radius"] == pytest.approx(np.median(norms))
    # 21 * .9 = 18.9: the 19th smallest of the largest norms of the images.
    largest = np.sort(norms.reshape(20, 3).max(1))
    assert choose(norms, image, coverage=0.9)["radius"] == largest[18]
    with pytest.raises(ValueError, match="at least 99 images"):
        choose(norms, image, coverage=0.99)


def test_conformal_radius_covers_new_images():
    # Exchangeable images: the share of new ones covered, over many calibrations.
    rng = np.random.RandomState(0)
    image = np.repeat(np.arange(39), 2)
    covered = []
    for _ in range(1000):
        norms = rng.gamma(3, size=(40, 2))
        radius = choose(norms[:39].ravel(), image, coverage=0.9)["radius"]
        covered.append(norms[39].max() <= radius)
    # Exactly .9 for 39 images: 40 * .9 = 36.
    assert np.mean(covered) == pytest.approx(0.9, abs=3 * np.sqrt(0.09 / 1000))


def test_pairs_are_encoded_and_grouped_by_image(tiny_set, images):
    pairs = pair_batches(images, copies=3)
    latents, image = tiny_set.encode_pairs(pairs)
    assert latents.shape == (18, 4) and latents.dtype == np.float32
    np.testing.assert_array_equal(image, np.tile(np.arange(6), 3))
    u = tiny_set.encode(images, np.roll(images, 1, 2))
    np.testing.assert_allclose(latents, np.tile(u, (3, 1)), rtol=1e-4, atol=1e-6)
    norms, same = tiny_set.latent_norms(pairs)
    np.testing.assert_allclose(norms, np.linalg.norm(latents, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(same, image)


def test_mixed_precision_keeps_float32_where_it_matters(images):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        pset = new_set()
        reconstruction, kl = pset.elbo_terms(images, np.roll(images, 1, 2))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert reconstruction.dtype == kl.dtype == tf.float32
    assert np.isfinite(reconstruction).all() and np.isfinite(kl).all()


def nan_image(images):
    bad = images.copy()
    bad[0, 0, 0, 0] = np.nan
    return bad


BAD_IMAGES = {
    "NaN": nan_image,
    "out of range": lambda images: images * 255,
    "uint8": lambda images: (images * 255).astype(np.uint8),
    "rank": lambda images: images[0],
    "empty": lambda images: images[:0],
    "shape": lambda images: images[:, :-1],
}
MESSAGES = {
    "NaN": "NaN",
    "out of range": "must lie in .0, 1.",
    "uint8": "Received dtype uint8",
    "rank": "rank 3",
    "empty": "empty",
    "shape": "must hold images of shape",
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images_are_named(tiny_set, images, case):
    bad = BAD_IMAGES[case](images)
    with pytest.raises(ValueError, match=MESSAGES[case]):
        tiny_set.sample(bad)
    with pytest.raises(ValueError, match=f"x_perturbed|{MESSAGES[case]}"):
        tiny_set.encode(images, bad)


@pytest.mark.parametrize("case", ["NaN", "out of range", "uint8", "rank", "empty"])
def test_fit_names_bad_batches(images, case):
    pset = lps.PerturbationSet.from_network("mnist_fc", latent_dim=4, units=8)
    pset.compile(jit_compile=False)
    good = images
    bad = BAD_IMAGES[case](images)
    if case in ("rank", "empty"):
        good = bad
    data = tf.data.Dataset.from_tensor_slices((good, bad)).batch(3)
    with pytest.raises(ValueError, match=f"{MESSAGES[case]}|rank 3"):
        pset.fit(data, verbose=0)


def test_fit_names_bad_arguments(images):
    pset = new_set()
    pset.compile(jit_compile=False)
    with pytest.raises(ValueError, match="same shape"):
        pset.fit(images, images[:, :-1], verbose=0)
    with pytest.raises(ValueError, match=r"batches .x, y."):
        pset.fit(tf.data.Dataset.from_tensor_slices(images).batch(2), verbose=0)
    with pytest.raises(ValueError, match="own loss"):
        pset.compile(loss="mse")


def test_bad_numbers_are_named(tiny_set, images):
    with pytest.raises(ValueError, match=r"`radius` must be positive.*radius=-1"):
        tiny_set.sample(images, radius=-1)
    with pytest.raises(ValueError, match="`radius` must be positive"):
        tiny_set.radius = 0
    with pytest.raises(ValueError, match="num_samples"):
        tiny_set.sample(images, 0)
    with pytest.raises(ValueError, match=r"`u` must have shape \(batch, 4\)"):
        tiny_set.perturb(images, np.zeros((6, 5)))
    with pytest.raises(ValueError, match="between 0 and 1"):
        tiny_set.calibrate(pair_batches(images), quantile=1.5)
    with pytest.raises(ValueError, match="empty"):
        tiny_set.calibrate(pair_batches(images).take(0))
    with pytest.raises(ValueError, match="has no radius yet"):
        new_set().sample(images)
    with pytest.raises(ValueError, match="`likelihood` must be one of"):
        lps.PerturbationSet(None, None, None, likelihood="poisson")
    with pytest.raises(ValueError, match="condition"):
        lps.PerturbationSet(None, None, keras.layers.Dense(2))
    with pytest.raises(ValueError, match="`network` must be one of"):
        lps.PerturbationSet.from_network("resnet")
    with pytest.raises(ValueError, match="not seen an image"):
        new_set().latent_dim  # noqa: B018


@pytest.fixture(scope="module")
def several_sets(tiny_set, tmp_path_factory):
    """One made by its constructor, and what Keras and Python make of it."""
    path = tmp_path_factory.mktemp("saved") / "set.keras"
    tiny_set.save(path)
    return {
        "made": new_set(),
        "loaded": keras.models.load_model(path),
        "cloned": keras.models.clone_model(tiny_set),
        "copied": copy.deepcopy(tiny_set),
    }


@pytest.mark.parametrize("way", ["made", "loaded", "cloned", "copied"])
@pytest.mark.parametrize(
    "name",
    ["prior_network", "recognition_network", "generator", "likelihood_name", "seed"],
)
def test_what_the_set_was_built_from_is_read_only(several_sets, way, name):
    pset = several_sets[way]
    before = getattr(pset, name)
    with pytest.raises(AttributeError, match=f"`{name}`.*Build another Perturbation"):
        setattr(pset, name, before)
    assert getattr(pset, name) is before


def test_another_radius_takes_effect_and_a_copy_has_its_own(several_sets, images):
    pset = several_sets["copied"]
    pset.radius, pset.calibration = 1e-6, {"method": "none"}
    np.testing.assert_allclose(pset.sample(images, seed=0), pset(images), atol=1e-4)
    assert pset.get_config()["calibration"] == {"method": "none"}
    assert several_sets["loaded"].radius > 1


@pytest.mark.slow
def test_the_digest_is_of_what_perturb_depends_on(tiny_set, images):
    pset = keras.models.clone_model(tiny_set)
    pset.build((None, 12, 12, 1))
    pset.set_weights(tiny_set.get_weights())
    assert pset.digest() == tiny_set.digest()
    pset.radius = 1.5
    pset.next_key()  # counts a draw
    assert pset.digest() == tiny_set.digest()
    weight = pset.generator.weights[0]
    weight.assign(weight + 1e-3)
    assert pset.digest() != tiny_set.digest()

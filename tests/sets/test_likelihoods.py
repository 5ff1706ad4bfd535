"""The two terms of the objective and the distributions behind them, against SciPy."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import lps_tf as lps
from lps_tf.sets.likelihoods import LIKELIHOODS, Bernoulli, Gaussian, OptimalGaussian


def pictures(seed, shape=(5, 6, 7, 2), low=0.0):
    values = np.random.RandomState(seed).uniform(low, 1 - low, size=shape)
    return values.astype(np.float32)


def normal_parts(networks_output):
    """Mean and standard deviation, in float64, of what an encoder returns."""
    mean, log_variance = (np.float64(part) for part in networks_output)
    return mean, np.exp(log_variance / 2)


def test_bernoulli_reconstruction_is_the_summed_binary_cross_entropy():
    g, target = pictures(0, low=0.01), pictures(1)
    g64, t64 = np.float64(g), np.float64(target)
    expected = -(t64 * np.log(g64) + (1 - t64) * np.log(1 - g64)).sum((1, 2, 3))
    result = Bernoulli.reconstruction(tf.constant(g), tf.constant(target))
    assert result.shape == (5,)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_gaussian_reconstruction_is_the_plain_sum_of_squared_errors():
    g, target = pictures(0), pictures(1)
    # No 1/2 and no constant: a published beta belongs to this scale.
    expected = ((np.float64(g) - target) ** 2).sum((1, 2, 3))
    result = Gaussian.reconstruction(tf.constant(g), tf.constant(target))
    assert result.shape == (5,)
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    np.testing.assert_allclose(Gaussian.reconstruction(g, g), 0)


def test_bernoulli_log_prob_is_scipys():
    g = pictures(0, low=0.01)
    target = (pictures(1) > 0.5).astype(np.float32)
    expected = scipy.stats.bernoulli.logpmf(target, np.float64(g)).sum((1, 2, 3))
    result = Bernoulli.distribution(tf.constant(g)).log_prob(target)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_gaussian_log_prob_is_scipys_with_unit_variance():
    g, target = pictures(0), pictures(1)
    expected = scipy.stats.norm.logpdf(target, np.float64(g), 1.0).sum((1, 2, 3))
    result = Gaussian.distribution(tf.constant(g)).log_prob(target)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["bernoulli", "gaussian"])
def test_probabilities_of_exactly_zero_and_one_stay_finite(name):
    image = tf.constant([0.0, 0.0, 1.0, 1.0], shape=(1, 2, 2, 1))
    target = tf.constant([0.0, 1.0, 0.0, 1.0], shape=(1, 2, 2, 1))
    with tf.GradientTape() as tape:
        tape.watch(image)
        loss = LIKELIHOODS[name].reconstruction(image, target)
    assert np.isfinite(loss).all() and np.isfinite(tape.gradient(loss, image)).all()
    # The two wrong pixels cost, the two right ones do not.
    wrong = {"bernoulli": -2 * np.log(1.2e-7), "gaussian": 2.0}[name]
    np.testing.assert_allclose(loss, [wrong], rtol=1e-2)


def test_half_precision_images_give_float32_losses():
    g, target = pictures(0, low=0.05), pictures(1)
    for likelihood in LIKELIHOODS.values():
        more = (tf.constant(0.1),) if likelihood.fits_variance else ()
        half = likelihood.reconstruction(tf.cast(g, "float16"), target, *more)
        assert half.dtype == tf.float32
        full = likelihood.reconstruction(tf.constant(g), target, *more)
        np.testing.assert_allclose(half, full, rtol=1e-2)


def test_optimal_gaussian_is_scipys_at_the_mean_squared_error():
    g, target = pictures(0), pictures(1)
    variance = OptimalGaussian.variance(tf.constant(g), tf.constant(target))
    mse = np.mean((np.float64(g) - target) ** 2)
    np.testing.assert_allclose(variance, mse, rtol=1e-5)
    result = OptimalGaussian.reconstruction(g, target, variance)
    expected = -scipy.stats.norm.logpdf(target, np.float64(g), np.sqrt(mse))
    np.testing.assert_allclose(result, expected.sum((1, 2, 3)), rtol=1e-5)
    # No other variance explains the batch better.
    for factor in (0.9, 1.1):
        other = OptimalGaussian.reconstruction(g, target, factor * variance)
        assert tf.reduce_sum(other) > tf.reduce_sum(result)


def test_optimal_gaussian_has_the_gradient_of_half_log_mse():
    g, target = tf.constant(pictures(0)), tf.constant(pictures(1))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(g)
        variance = OptimalGaussian.variance(g, target)
        loss = tf.reduce_sum(OptimalGaussian.reconstruction(g, target, variance))
        formula = 5 * 6 * 7 * 2 / 2 * tf.math.log(tf.reduce_mean((g - target) ** 2))
    np.testing.assert_allclose(
        tape.gradient(loss, g), tape.gradient(formula, g), rtol=1e-4
    )


@pytest.mark.slow
def test_a_set_learns_the_variance_of_its_last_batches_and_saves_it(
    tiny_set, images, tmp_path
):
    pset = lps.PerturbationSet(
        tiny_set.prior_network,
        tiny_set.recognition_network,
        tiny_set.generator,
        likelihood="optimal_gaussian",
    )
    x, x_perturbed = tf.constant(images), tf.constant(images[::-1].copy())
    before = [w.numpy() for w in tiny_set.weights]
    variances = []
    for _ in range(100):  # without an optimizer: only statistics move
        pset.elbo_terms(x, x_perturbed, training=True)
        variances.append(pset.pixel_variance)
    z = pset.posterior(x, x_perturbed).sample(seed=[0, 1])
    generated = pset.likelihood(x, z).mean()
    mse = float(tf.reduce_mean((generated - x_perturbed) ** 2))
    assert variances[0] > 0.9  # it starts at 1
    assert variances[-1] == pytest.approx(mse, rel=0.15)
    spread = pset.likelihood(x, z).stddev()
    np.testing.assert_allclose(spread, np.sqrt(variances[-1]), rtol=1e-5)
    # Evaluation leaves it alone.
    pset.elbo_terms(x, x_perturbed)
    assert pset.pixel_variance == variances[-1]
    pset.save(tmp_path / "set.keras")
    again = keras.models.load_model(tmp_path / "set.keras")
    assert again.pixel_variance == variances[-1]
    for weight, value in zip(tiny_set.weights, before, strict=True):
        weight.assign(value)  # the batch norms moved, and the fixture is shared


# The distributions of a perturbation set.


def test_prior_and_posterior_are_the_networks_normals(tiny_set, images):
    x, x_perturbed = tf.constant(images), tf.constant(images[::-1].copy())
    z = np.random.RandomState(0).normal(size=(len(images), 4)).astype(np.float32)
    both = tf.concat([x, x_perturbed], -1)
    for distribution, output in [
        (tiny_set.prior(x), tiny_set.prior_network(x)),
        (tiny_set.posterior(x, x_perturbed), tiny_set.recognition_network(both)),
    ]:
        expected = scipy.stats.norm.logpdf(z, *normal_parts(output)).sum(1)
        np.testing.assert_allclose(distribution.log_prob(z), expected, rtol=1e-4)


def test_likelihood_of_a_set_is_that_of_the_generators_image(tiny_set, images):
    x = tf.constant(images)
    z = tf.constant(np.random.RandomState(0).normal(size=(len(images), 4)), tf.float32)
    target = (images[::-1] > 0.5).astype(np.float32)
    g = np.float64(tiny_set.generator((x, z)))
    expected = scipy.stats.bernoulli.logpmf(target, g).sum((1, 2, 3))
    result = tiny_set.likelihood(x, z).log_prob(target)
    np.testing.assert_allclose(result, expected, rtol=1e-4)


def test_kl_is_the_formula_written_out(tiny_set, images):
    x, x_perturbed = tf.constant(images), tf.constant(images[::-1].copy())
    mp, sp = normal_parts(tiny_set.prior_network(x))
    mq, sq = normal_parts(tiny_set.recognition_network(tf.concat([x, x_perturbed], -1)))
    expected = np.log(sp / sq) + (sq**2 + (mq - mp) ** 2) / (2 * sp**2) - 0.5
    kl = tiny_set.elbo_terms(x, x_perturbed)[1]
    assert kl.shape == (len(images),)
    assert expected.sum(1).min() > 0.1  # a KL near zero would show nothing
    np.testing.assert_allclose(kl, expected.sum(1), rtol=1e-4)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_reconstruction_is_taken_at_draws_of_the_posterior(
    tiny_set, images, likelihood
):
    pset = lps.PerturbationSet(
        tiny_set.prior_network,
        tiny_set.recognition_network,
        tiny_set.generator,
        likelihood=likelihood,
    )
    # One pair many times: the mean of the term is the mean over posterior draws.
    n = 2000
    x, x_perturbed = (np.repeat(images[i : i + 1], n, 0) for i in (0, 1))
    terms = pset.elbo_terms(x, x_perturbed)[0].numpy()
    both = tf.concat([images[:1], images[1:2]], -1)
    mean, std = normal_parts(tiny_set.recognition_network(both))
    z = mean + std * np.random.RandomState(0).normal(size=(n, 4))
    g = np.float64(tiny_set.generator((x, tf.constant(z, tf.float32))))
    if likelihood == "gaussian":
        expected = ((g - x_perturbed) ** 2).sum((1, 2, 3))
    else:
        bce = x_perturbed * np.log(g) + (1 - x_perturbed) * np.log(1 - g)
        expected = -bce.sum((1, 2, 3))
    assert terms.std() > 0  # one shared draw would have none
    assert scipy.stats.ks_2samp(terms, expected).pvalue > 1e-3

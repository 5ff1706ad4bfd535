"""Theorems 1 and 2: the ingredients against SciPy, the bounds on a trained model."""

import json

import keras
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
import tensorflow as tf

import lps_tf as lps
from lps_tf.sets import theory

LATENT = 2  # few enough to integrate over the ball


@pytest.mark.parametrize("k", [1e-9, 1e-3, 0.1, 1.0, 7.0, 200.0])
def test_std_bound_is_the_lower_lambert_branch(k):
    expected = np.sqrt(-scipy.special.lambertw(-np.exp(-k - 1), -1).real)
    tolerance = 1e-9 if k > 1e-6 else 1e-4  # SciPy loses digits near the branch point
    np.testing.assert_allclose(theory.std_bound(k), expected, rtol=tolerance)


@pytest.mark.parametrize("k", [0.0, 1e-12, 0.5, 30.0, 1e3, 1e6])
def test_std_bound_solves_its_equation_where_exponentials_underflow(k):
    t = 2 * np.log(theory.std_bound(k))
    assert np.expm1(t) - t == pytest.approx(k, rel=1e-6, abs=1e-15)
    assert t >= 0


def test_the_ball_is_the_formula_and_holds_the_mass():
    random = np.random.RandomState(0)
    m, s = random.normal(size=(5, 7)), np.exp(random.normal(size=(5, 7)))
    k = m**2 + s**2 - 1 - np.log(s**2)
    r, b, radius = theory.ball(k, alpha=0.1)
    assert scipy.stats.chi2.cdf(r**2, 7) == pytest.approx(0.9)
    np.testing.assert_allclose(b, [theory.std_bound(row).max() for row in k])
    np.testing.assert_allclose(radius, b * r + np.sqrt(k.sum(1)))
    u = m + s * random.normal(size=(20_000, 5, 7))
    inside = (np.linalg.norm(u, axis=2) <= radius).mean(0)
    assert (inside >= 0.9 - 3 * np.sqrt(0.09 / 20_000)).all()


def shifted_pairs(n=64):
    """Bright squares, moved: 8x8 images of which two latents can tell everything."""
    random = np.random.RandomState(0)
    images = np.zeros((2, n, 8, 8, 1), np.float32)
    for i in range(n):
        row, column = random.randint(2, 4, 2)
        down, right = random.randint(-1, 2, 2)
        images[0, i, row : row + 3, column : column + 3] = 0.9
        row, column = row + down, column + right
        images[1, i, row : row + 3, column : column + 3] = 0.9
    return images


@pytest.fixture(scope="module", params=["bernoulli", "gaussian", "optimal_gaussian"])
def trained(request):
    """Bounds before, amid and after training, and the trained set."""
    keras.utils.set_random_seed(0)
    x, x_perturbed = shifted_pairs()
    data = tf.data.Dataset.from_tensor_slices((x, x_perturbed)).batch(32)
    pset = lps.PerturbationSet.from_network(
        "mnist_fc", latent_dim=LATENT, units=32, likelihood=request.param
    )
    # With beta = 2, error + beta KL is twice the negative evidence bound.
    beta = 2.0 if request.param == "gaussian" else 1.0
    # Both parts of the training alike: the first alone would go without XLA.
    pset.compile(keras.optimizers.Adam(5e-3), beta=beta, jit_compile=True)
    pset.build((None, 8, 8, 1))
    history = [theory.bounds(pset, data, verbose=False)]
    for epochs in (10, 140):
        pset.fit(data, epochs=epochs, verbose=0)
        history.append(theory.bounds(pset, data, num_samples=400, verbose=False))
    return pset, x, x_perturbed, history


@pytest.mark.slow
def test_theorem_1_holds_pair_by_pair(trained):
    pset, x, x_perturbed, history = trained
    for found in history:
        assert found.distortion.shape == (64,)
        # A latent within the radius whose distortion is below the bound.
        assert (found.witness_norm <= found.radius).all()
        assert (found.witness_distortion <= found.distortion).all()
        assert np.isfinite(found.witness_distortion).all()
    # And the witness is one: the trained set's posterior means come as near.
    u = pset.encode(x, x_perturbed)
    error = tf.reduce_sum((pset.perturb(x, u) - x_perturbed) ** 2, (1, 2, 3))
    if pset.likelihood_name == "gaussian":
        inside = lps.latent.norm(u) <= history[-1].radius
        assert np.mean(inside & (error <= history[-1].distortion)) > 0.9


@pytest.mark.slow
def test_theorem_2_holds_against_an_integral_over_the_ball(trained):
    pset, x, x_perturbed, history = trained
    found = history[-1]
    # A grid in the plane of the latent: radii at equal shares of the truncated
    # prior's mass, angles equally spaced.
    angles = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    for i in range(6):
        mass = (np.arange(200) + 0.5) / 200 * scipy.stats.chi.cdf(found.radius[i], 2)
        norms = scipy.stats.chi.ppf(mass, 2)
        u = norms[:, None, None] * np.stack([np.cos(angles), np.sin(angles)], -1)
        u = np.float32(u.reshape(-1, 2))
        prior = pset.prior(x[i : i + 1])
        z = prior.mean() + u * prior.stddev()
        likelihood = pset.likelihood(np.repeat(x[i : i + 1], len(u), 0), z)
        log_p = np.float64(likelihood.log_prob(x_perturbed[i]))
        integral = scipy.special.logsumexp(log_p) - np.log(len(u))
        assert found.log_likelihood[i] <= integral
        # Not a bound that anything would satisfy.
        assert found.log_likelihood[i] > integral - 60


@pytest.mark.slow
def test_the_bounds_tighten_as_training_proceeds(trained):
    before, amid, after = trained[-1]
    distortion = [b.distortion.mean() for b in (after, amid, before)]
    likelihood = [b.log_likelihood.mean() for b in (before, amid, after)]
    assert distortion == sorted(distortion) and likelihood == sorted(likelihood)
    assert after.distortion.mean() < 0.7 * before.distortion.mean()


@pytest.mark.slow
def test_the_expected_log_likelihood_is_that_of_the_distribution(trained):
    pset, x, x_perturbed, history = trained
    posterior = pset.posterior(x[:4], x_perturbed[:4])
    z = posterior.sample(400, seed=[1, 2])
    log_p = [pset.likelihood(x[:4], draw).log_prob(x_perturbed[:4]) for draw in z]
    error = 4 * np.std(log_p, 0) * np.sqrt(2 / 400)
    difference = np.abs(history[-1].expected_log_likelihood[:4] - np.mean(log_p, 0))
    assert (difference <= error + 1e-3).all()
    terms = posterior.kl_divergence(pset.prior(x[:4]))
    np.testing.assert_allclose(history[-1].kl[:4], terms, rtol=1e-3)


def test_bounds_name_bad_input(tiny_set, images):
    data = tf.data.Dataset.from_tensor_slices((images, images[::-1])).batch(3)
    for alpha in (0, 1, -0.1):
        with pytest.raises(ValueError, match="`alpha` must lie strictly"):
            theory.bounds(tiny_set, data, alpha=alpha)
    with pytest.raises(ValueError, match="empty"):
        theory.bounds(tiny_set, data.take(0))


def test_bounds_print_plot_and_load(tiny_set, images, tmp_path):
    data = tf.data.Dataset.from_tensor_slices((images, images[::-1])).batch(3)
    found = theory.bounds(tiny_set, data, num_samples=3, verbose=False)
    assert "theorem 1" in str(found) and "pairs" in found._repr_html_()
    content = json.loads(found.to_json(tmp_path / "bounds.json"))
    assert content["pairs"] == 6 and content["alpha"] == 0.05
    assert content["radius"] == pytest.approx(found.radius.mean())
    again = theory.Bounds.load(tmp_path / "bounds.json")
    assert str(again) == str(found)
    np.testing.assert_array_equal(again.k, found.k)
    figures = again.plot(tmp_path)
    assert set(figures) == {"latent_use", "theorem_1"}
    bars = [bar.get_height() for bar in figures["latent_use"].axes[0].patches]
    assert sum(bars) == pytest.approx(found.kl.mean())
    for name in figures:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")

"""A sigma for each latent dimension, against what is known of ellipsoids."""

import json

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

import lps_tf as lps
from lps_tf.certification import certify_dataset, ellipsoids, sigma_of_spread
from tests.certification.shift import Shift, half_space

SIGMA = np.array([0.5, 1.0, 2.0])
WEIGHTS, LIMIT = np.array([1.0, -2.0, 0.5]), 3.0
X = np.zeros((4, 1, 3, 1), np.float32)
QUICK = {"n0": 20, "n": 2000, "alpha": 0.01, "verbose": False}


@pytest.fixture(scope="module")
def pset():
    return Shift(3)


@pytest.fixture(scope="module")
def smoothed(pset):
    return lps.SmoothedClassifier(half_space(WEIGHTS, LIMIT), pset, SIGMA)


@pytest.fixture(scope="module")
def found(smoothed):
    return smoothed.certify(X, **QUICK)


def test_the_ellipsoid_reaches_to_the_boundary_and_not_beyond(found):
    # The class has the probability Phi(limit / ||sigma * weights||), and the farthest
    # point of an ellipsoid along the weights is ||semi-axes * weights|| away.
    p = scipy.stats.norm.cdf(LIMIT / np.linalg.norm(SIGMA * WEIGHTS))
    assert (found.p_lower < p).all() and (found.p_lower > p - 0.05).all()
    reach = np.linalg.norm(found.semi_axes * WEIGHTS, axis=-1)
    assert (reach < LIMIT).all() and (reach > 0.85 * LIMIT).all()
    quantile = scipy.stats.norm.ppf(found.p_lower)
    np.testing.assert_allclose(found.semi_axes, SIGMA * quantile[:, None], rtol=1e-9)
    # The radius is that of the largest ball inside.
    np.testing.assert_allclose(found.radius, found.semi_axes.min(-1), rtol=1e-9)
    np.testing.assert_array_equal(found.sigma, SIGMA)


def test_membership_and_volume(found):
    random = np.random.default_rng(0)
    directions = random.normal(size=(4, 3))
    directions /= np.linalg.norm(directions / found.semi_axes, axis=1, keepdims=True)
    assert found.contains(0.999 * directions).all()
    assert not found.contains(1.001 * directions).any()
    assert found._replace(prediction=np.full(4, -1)).contains(0 * directions).sum() == 0
    # Volumes: pi^(d/2) / Gamma(d/2 + 1) times the semi-axes, or the radius to the d.
    unit = np.pi**1.5 / scipy.special.gamma(2.5)
    volume = unit * found.semi_axes.prod(-1)
    np.testing.assert_allclose(unit * found.equivalent_radius**3, volume, rtol=1e-9)


def test_membership_is_counted_by_pixels_too():
    certificate = lps.Certificate(
        prediction=np.array([[[0, -1]], [[1, 1]]]),
        radius=np.array([[[1.0, 0.0]], [[0.2, 3.0]]]),
        p_lower=np.zeros((2, 1, 2)),
        samples=np.ones(2),
        alpha=0.1,
        sigma=SIGMA,
    )
    inside = certificate.contains([[0.9, 0, 0], [0, 0, 2.0]])  # norms 0.9 and 0.5
    np.testing.assert_array_equal(inside, [[[True, False]], [[False, True]]])
    assert certificate.semi_axes.shape == (2, 1, 2, 3)


def test_one_sigma_for_each_dimension_alike_is_one_sigma(pset):
    model = half_space(WEIGHTS, LIMIT)
    one = lps.SmoothedClassifier(model, pset, 0.7).certify(X, **QUICK)
    each = lps.SmoothedClassifier(model, pset, [0.7] * 3).certify(X, **QUICK)
    np.testing.assert_array_equal(one.radius, each.radius)
    assert one.semi_axes.shape == (4, 1) and one.sigma == 0.7
    np.testing.assert_array_equal(one.equivalent_radius, one.radius)


def test_a_target_is_that_of_the_ball_inside(smoothed, found):
    easy = smoothed.certify(X, target_radius=0.5 * found.radius.min(), **QUICK)
    assert (easy.prediction == 0).all() and (easy.samples < 2020).all()
    # Beyond the ball, though not beyond the ellipsoid's longest semi-axis.
    far = 1.5 * found.radius.max()
    assert far < found.semi_axes.max()
    assert (smoothed.certify(X, target_radius=far, **QUICK).prediction == -1).all()


def test_training_noise_has_the_standard_deviations(pset):
    noise = lps.LatentNoise(pset, SIGMA)
    x = np.zeros((4000, 1, 3, 1), np.float32)
    spread = np.std(noise(None, x, None), 0).ravel()
    np.testing.assert_allclose(spread, SIGMA, rtol=0.1)
    noise.sigma = 0.1
    np.testing.assert_allclose(np.std(noise(None, x, None), 0), 0.1, rtol=0.1)
    assert noise.sigma == 0.1 and "sigma=0.1" in repr(noise)
    noise.sigma = 2 * SIGMA
    assert "sigma=1 to 4" in repr(noise)


def test_a_sigma_from_the_spread_of_pairs(pset):
    random = np.random.default_rng(0)
    scale = [[[[0.3], [0.9], [0.001]]]]
    moved = (random.random((50, 1, 3, 1)) * scale).astype(np.float32)
    spread = np.sqrt(np.square(moved).mean(0)).ravel()
    found = sigma_of_spread(pset, (np.zeros_like(moved), moved), 0.8)
    expected = spread.copy()
    expected[2] = 0.1 * spread.max()  # hardly used at all
    np.testing.assert_allclose(found / found[0], expected / expected[0], rtol=1e-5)
    np.testing.assert_allclose(scipy.stats.gmean(found), 0.8)
    lps.SmoothedClassifier(half_space(WEIGHTS, LIMIT), pset, found)  # as it is
    with pytest.raises(ValueError, match="not all zero"):
        sigma_of_spread(pset, (moved, moved), 0.8)


def test_a_data_set_counts_what_lies_in_the_ellipsoids(tmp_path, smoothed):
    random = np.random.default_rng(1)
    reach = np.array([0.6, 0.6, 1.0])[None, None, None, :, None]
    versions = (random.random((4, 40, 1, 3, 1)) * reach).astype(np.float32)
    data, labels = (X, np.zeros(4, int)), np.zeros(4, int)
    for _ in range(2):  # and goes on from what is there
        report = certify_dataset(
            smoothed, data, tmp_path, perturbed=(versions, labels), **QUICK
        )
    certificate = smoothed.certify(X, **QUICK)
    np.testing.assert_array_equal(report.radius, certificate.radius)
    inside = [certificate.contains(versions[:, i, 0, :, 0]) for i in range(40)]
    assert report.coverage.inside == pytest.approx(np.mean(inside))
    # More than in the balls, and not all.
    norms = np.linalg.norm(versions[:, :, 0, :, 0], axis=-1)
    assert (norms <= report.radius[:, None]).mean() < report.coverage.inside < 1
    assert json.loads((tmp_path / "settings.json").read_text())["sigma"] == [0.5, 1, 2]
    assert "0.5 to 2 along 3 dimensions" in str(report)
    assert "radius of equal volume" in str(report)
    report.to_json(tmp_path / "report.json")
    again = lps.CertificationReport.load(tmp_path / "report.json")
    assert str(again) == str(report)
    report.plot(tmp_path / "plots")


@pytest.mark.slow
def test_a_saved_model_certifies_the_same(tmp_path, smoothed, found):
    loaded = tf.saved_model.load(lps.export(smoothed, tmp_path / "saved"))
    theirs = loaded.certify(X, 20, 2000, tf.constant(0.01, tf.float64), 0)
    np.testing.assert_allclose(theirs["radius"], found.radius, rtol=1e-3)


@pytest.mark.parametrize(
    "sigma", [[1.0, 2.0], [1.0, 0.0, 1.0], [1.0, np.inf, 1.0], [[1.0] * 3], 0, "many"]
)
def test_bad_sigmas(pset, sigma):
    for make in (lps.LatentNoise, lambda *a: lps.SmoothedClassifier(print, *a)):
        with pytest.raises(ValueError, match=r"`sigma` must be"):
            make(pset, sigma)


def test_norm_of_one_sigma_is_the_norm():
    u = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_allclose(
        ellipsoids.norm(tf.constant(u), 0.3), np.linalg.norm(u, axis=1), 1e-6
    )

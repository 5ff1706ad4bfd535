"""The two statistical bounds of randomised smoothing, against SciPy and simulation."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from lps_tf.certification.statistics import (
    binomial_test,
    clopper_pearson_lower,
    randomised_clopper_pearson_lower,
)


def counts_of(n):
    some = np.geomspace(1, max(n - 1, 1), 25).astype(int)
    return np.unique(np.concatenate([[0, 1, n // 2, n], some, n - some]))


@pytest.mark.parametrize("alpha", [0.05, 0.001, 1e-6])
@pytest.mark.parametrize("n", [1, 10, 100, 1000, 10_000])
def test_lower_bound_is_clopper_and_pearsons(n, alpha):
    hits = counts_of(n)
    bounds = clopper_pearson_lower(hits, n, alpha)
    assert bounds.dtype == tf.float64
    expected = np.where(hits > 0, scipy.stats.beta.ppf(alpha, hits, n - hits + 1), 0)
    np.testing.assert_allclose(bounds, expected, rtol=1e-6, atol=1e-9)
    # It is the exact test turned round: that many hits have probability alpha there.
    tail = scipy.stats.binom.sf(hits[1:] - 1, n, bounds[1:])
    np.testing.assert_allclose(tail, alpha, rtol=1e-4)


def test_lower_bound_at_the_ends():
    assert float(clopper_pearson_lower(0, 100, 0.05)) == 0
    for n in (1, 100, 10_000):
        bound = float(clopper_pearson_lower(n, n, 0.001))
        np.testing.assert_allclose(bound, 0.001 ** (1 / n), rtol=1e-9)
        assert bound < 1


def test_lower_bound_broadcasts_and_compiles():
    hits = np.array([[3], [9]])
    n = np.array([10, 50])
    expected = scipy.stats.beta.ppf(0.01, hits, n - hits + 1)
    compiled = tf.function(clopper_pearson_lower)
    for bound in (clopper_pearson_lower, compiled):
        result = bound(tf.constant(hits), tf.constant(n), tf.constant(0.01, tf.float64))
        np.testing.assert_allclose(result, expected, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize("n", [10, 100, 1000])
def test_simulated_bounds_are_above_the_truth_at_most_as_often_as_they_may(n, alpha):
    simulated = 20_000
    table = clopper_pearson_lower(np.arange(n + 1), n, alpha).numpy()
    random = np.random.RandomState(0)
    allowed = alpha + 3 * np.sqrt(alpha * (1 - alpha) / simulated)
    shares = []
    for p in [0.01, 0.1, 0.3, 0.5, 0.51, 0.7, 0.9, 0.97, 0.99, 0.999]:
        bounds = table[random.binomial(n, p, simulated)]
        shares.append((bounds > p).mean())
    assert max(shares) <= allowed
    # And not by being far too careful.
    assert max(shares) > alpha / 10


@pytest.mark.parametrize("w", [1.0, 0.7, 0.1, 1e-5])
@pytest.mark.parametrize("n", [1, 10, 1000, 10_000])
def test_randomised_bound_is_that_of_a_count_and_a_part(n, w):
    alpha = 0.01
    hits = counts_of(n)
    bounds = randomised_clopper_pearson_lower(hits, n, alpha, w).numpy()
    # Between the bounds of as many and of one more success, and of 1 the usual one.
    usual = scipy.stats.beta.ppf(alpha, hits + 1, n - hits)
    assert (bounds[:-1] <= usual[:-1] + 1e-12).all()
    usual = np.nan_to_num(scipy.stats.beta.ppf(alpha, hits, n - hits + 1))
    assert (bounds >= usual - 1e-12).all()
    if w == 1:
        np.testing.assert_allclose(bounds, usual, rtol=1e-6, atol=1e-12)
    assert (bounds > usual).sum() >= (w < 1) * (len(hits) - 1)
    # By its definition, but for no success and the largest count, which have limits.
    some = (hits > 0) & (hits < n)
    tail = scipy.stats.binom.sf(hits, n, bounds)
    tail += w * scipy.stats.binom.pmf(hits, n, bounds)
    np.testing.assert_allclose(tail[some], alpha, rtol=1e-6)
    largest = min((alpha / w) ** (1 / n), max(0.5, alpha) ** (1 / n))
    np.testing.assert_allclose(bounds[-1], largest, rtol=1e-9)


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize("n", [10, 100])
def test_the_randomised_bound_is_wrong_with_probability_alpha_exactly(n, alpha):
    # Of each count, the part of (0, 1) that should take its bound above p.
    hits = np.arange(n + 1)
    for p in [0.02, 0.5, 0.9, 0.999 * 0.5 ** (1 / n)]:
        there = scipy.stats.binom.pmf(hits, n, p)
        beyond = scipy.stats.binom.sf(hits, n, p)
        w = np.clip((alpha - beyond) / np.maximum(there, 1e-300), 0, 1)
        np.testing.assert_allclose(there @ w, alpha, rtol=1e-9)
        below = bound_of_each(hits, n, alpha, np.maximum(w - 1e-6, 1e-9))
        assert (below > p)[w > 2e-6].all()
        above = bound_of_each(hits, n, alpha, w + 1e-6)
        assert (above <= p)[w < 1 - 2e-6].all()
    # Where all agree with probability 1/2 or more, it is never wrong.
    assert (bound_of_each(hits, n, alpha, 1e-9 + 0 * hits) <= 0.5 ** (1 / n)).all()


def bound_of_each(hits, n, alpha, w):
    """Bounds of counts, each with a number of its own."""
    w = tf.constant(w[:, None], tf.float64)  # beside the points that are tried
    return randomised_clopper_pearson_lower(hits, n, alpha, w).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize("n", [10, 100, 1000])
def test_simulated_randomised_bounds_attain_the_level(n, alpha):
    simulated, random = 20_000, np.random.RandomState(0)
    slack = 3 * np.sqrt(alpha * (1 - alpha) / simulated)
    for p in [0.01, 0.3, 0.51, 0.9, 0.99]:
        hits = random.binomial(n, p, simulated)
        wrong = bound_of_each(hits, n, alpha, 1 - random.random(simulated)) > p
        exact = alpha if p < 0.5 ** (1 / n) else 0
        assert abs(wrong.mean() - exact) <= slack * (exact > 0)


@pytest.mark.parametrize("total", [1, 2, 7, 100, 1000, 10_000])
def test_binomial_test_is_scipys(total):
    top = counts_of(total)
    top = top[2 * top >= total]
    result = binomial_test(top, total - top)
    assert result.dtype == tf.float64
    expected = [scipy.stats.binomtest(int(k), total, 0.5).pvalue for k in top]
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-300)


def test_binomial_test_of_equal_counts_is_one():
    counts = np.array([0, 1, 50, 5000])
    np.testing.assert_array_equal(binomial_test(counts, counts), np.ones(4))

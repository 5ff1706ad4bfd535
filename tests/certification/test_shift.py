"""Accuracy under a shift of a data set, against cases in which it is known."""

import numpy as np
import pytest
import scipy.stats

import lps_tf as lps
from lps_tf.certification import accuracy_under_shift
from lps_tf.certification.shift import mean_lower
from tests.certification.shift import Shift, half_space

SIGMA = 0.8


def test_the_bound_holds_for_a_half_space_and_is_reached():
    # All images are one: right with probability Phi(limit / sigma), and moved by e
    # toward the boundary with Phi((limit - e) / sigma). At e = 2 limit no bound by
    # the accuracy of unmoved images could be higher.
    limit, images = 0.5, 60
    x = np.zeros((images, 1, 2, 1), np.float32)
    smooth = lps.SmoothedClassifier(half_space([1, 0], limit), Shift(2), SIGMA)
    values = smooth.noisy_accuracy(x, np.zeros(images, int), n=600, verbose=False)
    shifts = np.linspace(0, 2, 21)
    found = accuracy_under_shift(values, SIGMA, shifts, alpha=0.01)
    true = scipy.stats.norm.cdf((limit - shifts) / SIGMA)
    assert found.accuracy == pytest.approx(true[0], abs=0.01)
    assert (found.bounds <= true).all()
    # But for the confidence in it.
    slack = found.accuracy - found.lower
    assert found.bounds[10] + slack == pytest.approx(true[10], abs=0.01)
    assert shifts[10] == 2 * limit
    # A part of the images, moved far: the mean shift is the same.
    for part in (0.1, 0.3, 0.7):
        far = scipy.stats.norm.cdf((limit - shifts / part) / SIGMA)
        assert (found.bounds <= part * far + (1 - part) * true[0]).all()


def test_noisy_accuracy_is_that_of_single_samples():
    limit = 0.3
    x = np.zeros((6, 1, 2, 1), np.float32)
    smooth = lps.SmoothedClassifier(half_space([1, 0], limit), Shift(2), SIGMA)
    labels = np.array([0, 1, 0, 1, 0, 1])
    found = smooth.noisy_accuracy(x, labels, n=4000, verbose=False)
    p = scipy.stats.norm.cdf(limit / SIGMA)
    np.testing.assert_allclose(found, np.where(labels == 0, p, 1 - p), atol=0.03)
    one_hot = smooth.noisy_accuracy(x, np.eye(2)[labels], n=4000, verbose=False)
    np.testing.assert_array_equal(one_hot, found)
    with pytest.raises(ValueError, match="equally long"):
        smooth.noisy_accuracy(x, labels[:3], n=10)


@pytest.mark.parametrize("n", [20, 200])
@pytest.mark.parametrize("a, b", [(0.01, 0.002), (8.0, 1.0), (0.3, 0.3)])
def test_the_mean_is_bounded_as_often_as_it_should_be(n, a, b):
    # Accuracies of images, from nearly all or nothing to much alike.
    runs, alpha, random = 20_000, 0.05, np.random.default_rng(0)
    means = random.beta(a, b, (runs, n)).mean(1)
    bounds = mean_lower(means, n, alpha)
    wrong = (bounds > a / (a + b)).mean()
    assert wrong <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / runs)
    # Where it is all or nothing, it is a little below that of Clopper and Pearson.
    exact = scipy.stats.beta.ppf(alpha, 0.9 * n, n - 0.9 * n + 1)
    assert exact - 0.06 < mean_lower(0.9, n, alpha) < exact


def test_the_ends():
    assert mean_lower(0.0, 10, 0.05) == 0
    np.testing.assert_allclose(mean_lower(1.0, 10, 0.05), 0.05 ** (1 / 10))
    found = accuracy_under_shift([1.0] * 50, 1.0, 100.0)
    assert found.bounds == [0.0] and found.accuracy == 1


def test_errors():
    for values in ([], [0.5, 1.1], [[0.5]], [np.nan]):
        with pytest.raises(ValueError, match="`accuracies` must be one number"):
            accuracy_under_shift(values, 1.0, 0.1)
    with pytest.raises(ValueError, match="`shifts` must be at least 0"):
        accuracy_under_shift([0.5], 1.0, [-0.1])

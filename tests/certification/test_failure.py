"""Bounds on the share of a ball that fails, against the shares of spherical caps."""

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

import lps_tf as lps
from lps_tf.certification import probability_of_failure
from lps_tf.sets import latent
from tests.certification.shift import Shift, half_space

RADIUS = 1.5


def cap(dim, limit):
    """Share of the ball of RADIUS beyond a plane at a distance."""
    share = scipy.special.betainc((dim + 1) / 2, 0.5, 1 - (limit / RADIUS) ** 2)
    return share / 2 if limit >= 0 else 1 - share / 2


def normal_cap(dim, limit):
    """The same under the normal distribution truncated to the ball."""

    def density(t):
        inner = scipy.stats.chi2.cdf(RADIUS**2 - t * t, dim - 1)
        return scipy.stats.norm.pdf(t) * inner

    part, _ = scipy.integrate.quad(density, limit, RADIUS)
    return part / scipy.stats.chi2.cdf(RADIUS**2, dim)


@pytest.mark.parametrize("dim", [2, 5])
@pytest.mark.parametrize(
    "distribution, share", [("uniform", cap), ("truncated normal", normal_cap)]
)
def test_the_bound_is_above_the_share_of_the_cap_and_near(dim, distribution, share):
    direction = np.arange(1.0, dim + 1) / np.linalg.norm(np.arange(1.0, dim + 1))
    limit, n, alpha = 0.4, 4000, 0.01
    x = np.zeros((5, 1, dim, 1), np.float32)
    found = probability_of_failure(
        half_space(direction, limit),
        Shift(dim, radius=RADIUS),
        x,
        n=n,
        alpha=alpha,
        distribution=distribution,
        batch_size=512,
        verbose=False,
    )
    exact = share(dim, limit)
    assert 0.1 < exact < 0.45
    slack = np.sqrt(exact * (1 - exact) / n)
    np.testing.assert_allclose(found.failures / n, exact, atol=4 * slack)
    # Of five images none is below, but once in twenty sets of draws.
    assert (found.upper >= exact).all() and (found.upper < exact + 6 * slack).all()
    bound = [
        scipy.stats.binomtest(int(k), n, alternative="less").proportion_ci(1 - alpha)
        for k in found.failures
    ]
    np.testing.assert_allclose(found.upper, [b.high for b in bound], rtol=1e-6)
    assert len(set(found.failures)) > 1


def test_draws_fill_the_ball_evenly():
    u = latent.sample_uniform_ball((20_000, 3), 2.0, [0, 7]).numpy()
    norms = np.linalg.norm(u, axis=1)
    assert norms.max() <= 2 * (1 + 1e-6)
    assert scipy.stats.kstest((norms / 2) ** 3, "uniform").pvalue > 0.01
    np.testing.assert_allclose(u.mean(0), 0, atol=0.03)


def test_labels_the_seed_and_the_index(tmp_path):
    x = np.zeros((3, 1, 2, 1), np.float32)
    model, pset = half_space([1.0, 0.0], 0.3), Shift(2)
    numbers = {"n": 300, "verbose": False}
    own = probability_of_failure(model, pset, x, **numbers)
    right = probability_of_failure(model, pset, x, [0, 0, 0], **numbers)
    np.testing.assert_array_equal(own.failures, right.failures)
    wrong = probability_of_failure(model, pset, x, [1, 1, 1], **numbers)
    np.testing.assert_array_equal(wrong.failures, 300 - right.failures)
    some = probability_of_failure(model, pset, x[:2], index=[2, 0], **numbers)
    np.testing.assert_array_equal(some.failures, own.failures[[2, 0]])
    other = probability_of_failure(model, pset, x, seed=1, **numbers)
    assert (other.failures != own.failures).any()
    near = probability_of_failure(model, pset, x, radius=0.2, **numbers)
    np.testing.assert_allclose(near.upper, 1 - 0.001 ** (1 / 300), rtol=1e-6)
    assert (near.failures == 0).all() and near.samples == 300


def test_errors():
    x, model = np.zeros((2, 1, 2, 1), np.float32), half_space([1.0, 0.0], 0.3)
    pset = Shift(2)
    with pytest.raises(ValueError, match="`distribution` must be one of"):
        probability_of_failure(model, pset, x, distribution="uniformly")
    with pytest.raises(ValueError, match="equally long"):
        probability_of_failure(model, pset, x, [0])
    with pytest.raises(ValueError, match="`index` must have one number"):
        probability_of_failure(model, pset, x, index=[1])
    with pytest.raises(ValueError, match="no radius yet"):
        probability_of_failure(model, Shift(2, radius=None), x)
    with pytest.raises(ValueError, match="one class an image"):
        probability_of_failure(lambda x, training: x, pset, x)


def test_names():
    assert lps.certification.probability_of_failure is probability_of_failure

"""The least error of a latent of so many nats, against laws of known form."""

import numpy as np
import pytest
import scipy.stats

from lps_tf.sets.rate_distortion import least_error


def gaussian(*deviations):
    """Pixels of normal laws, as their quantiles: no chance is in it."""
    levels = scipy.stats.norm.ppf((np.arange(4000) + 0.5) / 4000)
    return levels[:, None] * np.array(deviations)


@pytest.mark.parametrize("nats", [0.1, 0.5, 1.0])
def test_a_gaussian_pixel_has_shannons_formula(nats):
    found = least_error(gaussian(0.2), nats)
    variance = gaussian(0.2).var()
    assert found == pytest.approx(variance * np.exp(-2 * nats), rel=0.06)


def test_nats_go_to_the_pixels_that_need_them():
    # Reverse water-filling: of variances 1 and .01, half a nat is all for the first.
    found = least_error(gaussian(1.0, 0.1), 0.5)
    assert found == pytest.approx((np.exp(-1) + 0.01) / 2, rel=0.06)
    # Nothing is for a pixel that does not vary.
    still = np.concatenate([gaussian(1.0), np.full((4000, 3), 0.5)], 1)
    assert least_error(still, 0.5) == pytest.approx(np.exp(-1) / 4, rel=0.06)


def test_uniform_noise_is_between_shannons_bounds():
    draws = np.linspace(-0.3, 0.3, 2000)[:, None]
    nats, variance = 0.4, 0.03
    upper = variance * np.exp(-2 * nats)  # no law of this variance is harder
    lower = 0.6**2 / (2 * np.pi * np.e) * np.exp(-2 * nats)
    assert lower < least_error(draws, nats) < upper


def test_no_nats_leave_the_variance_and_more_leave_less():
    draws = np.random.RandomState(0).uniform(size=(400, 3, 2, 1))
    found = [least_error(draws, nats) for nats in (0, 0.5, 1, 2, 4)]
    assert found[0] == pytest.approx(draws.var(0).mean(), rel=0.02)
    assert sorted(found, reverse=True) == found and found[-1] < 0.5 * found[0]
    assert least_error(np.ones((5, 4)), 3.0) == 0


def test_a_black_pixel_is_cheaper_than_a_grey_one():
    # Half of the noise is cut off.
    noise = np.linspace(-0.3, 0.3, 2001)[:, None]
    black = np.maximum(noise, 0)
    share = [least_error(d, 0.3) / d.var() for d in (noise, black)]
    assert share[1] < share[0]


@pytest.mark.parametrize(
    "draws, nats, message",
    [
        (np.zeros((1, 4)), 1.0, r"two finite versions.*\(1, 4\)"),
        (np.zeros(4), 1.0, r"two finite versions.*\(4,\)"),
        (np.full((3, 2), np.nan), 1.0, "6 of it NaN"),
        (np.zeros((3, 2)), -1.0, "nats=-1.0"),
        (np.zeros((3, 2)), float("nan"), "nats=nan"),
    ],
)
def test_errors(draws, nats, message):
    with pytest.raises(ValueError, match=message):
        least_error(draws, nats)

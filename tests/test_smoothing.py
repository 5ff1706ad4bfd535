import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import beta, norm

import lps_tf as lps


def smoothed(pset, classifier, sigma=1.0, **arguments):
    return lps.SmoothedClassifier(classifier, pset, sigma, **arguments)


class HalfSpace(tf.Module):
    """Answers 1 when the first latent is above a limit: its certificate is known.

    Used with a set whose "image" is the latent: (batch, 4).
    """

    output_shape = (None, 2)

    def __init__(self, limit):
        self.limit = limit

    def __call__(self, u, training=False):
        above = u[:, 0] - self.limit
        return tf.stack([-above, above], 1)


class LatentItself:
    """A set whose image is the latent itself."""

    def __init__(self, pset):
        self.condition = pset.condition

    def decode(self, conditioned, u):
        return u


def test_certificate_of_a_half_space_is_the_known_one(tiny_set, images):
    # Noise of sigma answers 0 with probability Phi(limit / sigma), and exactly the
    # ball of radius `limit` keeps that above one half.
    limit, sigma, n = 1.2, 0.8, 4000
    found = smoothed(LatentItself(tiny_set), HalfSpace(limit), sigma).certify(
        images, n0=50, n=n, alpha=0.01, verbose=False
    )
    p = norm.cdf(limit / sigma)
    hits = n * p - 4 * np.sqrt(n * p * (1 - p))
    assert (found.prediction == 0).all()
    assert (found.radius <= limit * 1.05).all()
    lowest = beta.ppf(0.01, hits, n - hits + 1)
    assert (found.p_lower >= lowest).all()
    np.testing.assert_allclose(found.radius, sigma * norm.ppf(found.p_lower), rtol=1e-9)
    assert (found.samples == n + 50).all() and found.alpha == 0.01
    # The bounds differ between images: each has draws of its own.
    assert len(set(found.p_lower)) > 1


def test_close_calls_abstain_with_radius_zero(tiny_set, images):
    # Just below one half: whatever is selected cannot be certified.
    fair = smoothed(LatentItself(tiny_set), HalfSpace(0.0))
    found = fair.certify(images, n0=10, n=200, alpha=0.001, verbose=False)
    assert (found.prediction == -1).all()
    assert (found.radius == 0).all()
    assert (fair.predict(images, n=200, alpha=0.001, verbose=False) == -1).all()


def test_prediction_agrees_with_the_probabilities(tiny_set, images):
    sure = smoothed(LatentItself(tiny_set), HalfSpace(-1.0))
    assert (sure.predict(images, n=200, alpha=0.001, verbose=False) == 1).all()


def test_counts_are_those_of_all_draws_whatever_the_batch(tiny_set, tiny_classifier):
    x = tf.constant(np.random.RandomState(0).rand(1, 12, 12, 1), tf.float32)
    conditioned = tiny_set.condition(x)
    for n in (1, 7, 8, 50):
        counts = smoothed(tiny_set, tiny_classifier, batch_size=8)._counts(
            conditioned, tf.constant(n), tf.constant([0, 1])
        )
        assert counts.numpy().sum() == n


def test_an_image_has_the_same_certificate_in_any_company(
    tiny_set, tiny_classifier, images
):
    smooth = smoothed(tiny_set, tiny_classifier, 0.5, batch_size=50)
    few = smooth.certify(images[:2], n0=20, n=100, verbose=False)
    many = smooth.certify(images, n0=20, n=100, verbose=False)
    np.testing.assert_array_equal(few.p_lower, many.p_lower[:2])
    again = smoothed(tiny_set, tiny_classifier, 0.5, batch_size=50, seed=1)
    other = again.certify(images, n0=20, n=100, verbose=False)
    assert (other.p_lower != many.p_lower).any()


def test_false_certificates_are_as_rare_as_alpha(tiny_set):
    # 2,000 images through the whole of `certify`, at a class probability for which
    # the bound is above the truth most often.
    limit, alpha, n = 0.4, 0.05, 60
    half_space = HalfSpace(limit)
    smooth = smoothed(LatentItself(tiny_set), half_space, batch_size=60)
    x = np.zeros((2000, 12, 12, 1), np.float32)
    found = smooth.certify(x, n0=20, n=n, alpha=alpha, verbose=False)
    # A certificate is false if the ball it names leaves the class's half space.
    edge = np.where(found.prediction == 0, limit, -limit)
    false = (found.prediction >= 0) & (found.radius > edge)
    assert false.mean() <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / 2000)
    assert (found.prediction >= 0).mean() > 0.3  # it does certify


def test_errors(tiny_set, tiny_classifier, images):
    for sigma in (0, -1.0):
        with pytest.raises(ValueError, match="`sigma` must be positive"):
            smoothed(tiny_set, tiny_classifier, sigma)
    with pytest.raises(ValueError, match="batch_size"):
        smoothed(tiny_set, tiny_classifier, batch_size=0)
    smooth = smoothed(tiny_set, tiny_classifier)
    for alpha in (0, 1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="`alpha` must lie strictly between"):
            smooth.certify(images, alpha=alpha)
        with pytest.raises(ValueError, match="`alpha` must lie strictly between"):
            smooth.predict(images, alpha=alpha)
    for name in ("n0", "n"):
        with pytest.raises(ValueError, match=f"`{name}` must be a whole number"):
            smooth.certify(images, **{name: 0})
    with pytest.raises(ValueError, match="NaN"):
        smooth.certify(images * np.nan)
    with pytest.raises(ValueError, match="must hold images of shape"):
        smooth.certify(images[:, :5], n0=1, n=1, verbose=False)

"""A bound on accuracy under a shift of the whole data set, from one on clean images."""

from typing import Any, NamedTuple

import numpy as np
import scipy.special

from lps_tf._internal import checks


class ShiftBound(NamedTuple):
    """What `accuracy_under_shift` returns.

    Attributes:
        accuracy: Mean accuracy of the images that were measured.
        lower: Lower confidence bound on the accuracy of all images of their kind.
        shifts: Mean latent norms that were asked for, (shifts,).
        bounds: Lower bound on the accuracy under each of them, (shifts,).
        alpha: Probability that `lower`, and with it any of the bounds, is too high.
    """

    accuracy: float
    lower: float
    shifts: np.ndarray
    bounds: np.ndarray
    alpha: float


def accuracy_under_shift(
    accuracies: Any, sigma: float, shifts: Any, *, alpha: float = 1e-3
) -> ShiftBound:
    """Bounds the accuracy of a noisy classifier on a data set that has shifted.

    Of a classifier f and an image x of class y, let h(x, u) be the probability that
    f(g(x, u + sigma n)) is y, n from N(0, I); `SmoothedClassifier.noisy_accuracy`
    estimates h(x, 0). Its mean over images is the accuracy of the classifier that
    answers to one noisy sample, not of the majority vote.

    Let the images come from some distribution, and be perturbed by latents u in any
    way: by chance, by an adversary, some much and others not at all, so long as the
    mean of ||u|| is at most epsilon. (This is the Wasserstein distance of order 1 of
    the shifted latents from 0.) Then

        mean h(x, u) >= mean h(x, 0) - (2 Phi(epsilon / (2 sigma)) - 1).

    For h(x, u) is the probability of one event under N(u, sigma^2 I), and h(x, 0) under
    N(0, sigma^2 I); they differ by at most the total variation between the two, which
    is 2 Phi(||u|| / (2 sigma)) - 1. That is concave in ||u||, so its mean is at most
    its value at the mean of ||u|| (Jensen).

    The mean of h(x, 0) over all images is bounded by that over the given ones, by the
    inequality of Chernoff and Hoeffding for independent numbers in [0, 1]: estimates
    from few noise samples an image, even one, are as good as exact ones. With
    probability at least 1 - alpha over images and noise, all bounds hold at once.

    A certificate is about one image and one ball. This is about the mean over a data
    set, holds for shifts that go far for some of the images, and falls with epsilon
    from the first step on.

    Args:
        accuracies: Accuracy on each of the images, in [0, 1], (images,): independent
            ones, that were not trained on.
        sigma: Standard deviation of the noise. With one for each latent dimension take
            1, and for `shifts` the mean of ||u / sigma||.
        shifts: Mean latent norms epsilon, at least 0, (shifts,) or one number.
        alpha: Error probability.

    Returns:
        A `ShiftBound`.

    Raises:
        ValueError: If accuracies are missing or not in [0, 1], shifts are negative, or
            a number is out of its range.

    References:
        Kumar et al. (2022), "Certifying model accuracy under distribution shifts",
        arXiv:2201.12440, Theorem 1, for the latent norm as the distance; Hoeffding
        (1963), "Probability inequalities for sums of bounded random variables".
    """
    values = np.asarray(accuracies, np.float64)
    inside = (values >= 0) & (values <= 1)
    if values.ndim != 1 or not values.size or not inside.all():
        raise ValueError(
            "`accuracies` must be one number in [0, 1] for each image. Received: shape "
            f"{values.shape}, values {values}"
        )
    sigma = checks.positive("sigma", sigma)
    alpha = checks.probability("alpha", alpha)
    asked = np.atleast_1d(np.asarray(shifts, np.float64))
    if not (asked >= 0).all():
        raise ValueError(f"`shifts` must be at least 0. Received: shifts={shifts}")
    lower = float(mean_lower(values.mean(), values.size, alpha))
    lost = 2 * scipy.special.ndtr(asked / (2 * sigma)) - 1
    bounds = np.maximum(lower - lost, 0.0)
    return ShiftBound(float(values.mean()), lower, asked, bounds, alpha)


def mean_lower(mean: Any, n: int, alpha: float) -> np.ndarray:
    """A lower confidence bound on the mean of a distribution in [0, 1].

    The p at which n KL(mean || p) = log(1/alpha), by bisection: a mean of n
    independent numbers in [0, 1] lies as far above theirs with probability at most
    alpha (Hoeffding 1963, Theorem 1).

    Args:
        mean: Mean of n numbers, any shape.
        n: Number of them.
        alpha: Error probability.
    """
    mean = np.asarray(mean, np.float64)
    low, high = np.zeros_like(mean), mean.copy()
    for _ in range(60):
        middle = (low + high) / 2
        divergence = scipy.special.kl_div(mean, middle)
        divergence += scipy.special.kl_div(1 - mean, 1 - middle)
        far = n * divergence > -np.log(alpha)
        low, high = np.where(far, middle, low), np.where(far, high, middle)
    return low

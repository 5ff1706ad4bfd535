"""How near any latent of so many nats can come to noise of its own in each pixel."""

import numpy as np

# Values of a pixel that its distribution is made of, iterations at each slope, and
# halvings of the interval of slopes: four digits.
_POINTS, _ITERATIONS, _HALVINGS = 32, 60, 24


def least_error(draws: np.ndarray, nats: float) -> float:
    """The least mean squared error at which `nats` can describe independent pixels.

    A conditional VAE describes x_perturbed, given x, by a latent of which the
    generator learns KL(posterior || prior) nats in the mean, and no less than the
    mutual information of the two. Whatever the networks are, its mean squared error
    over posterior samples is at least the distortion-rate function of x_perturbed.
    Where pixels are independent given x, it is that of each of them at one common
    slope (Cover and Thomas, *Elements of Information Theory*, 10.3 and 10.8), computed
    by the algorithm of Blahut and Arimoto. At 0 nats it is the variance.

    Of a Gaussian pixel it is variance * exp(-2 nats / pixels): 50 nats shared by 784
    of them leave 88% of the variance.

    Args:
        draws: Versions of one image that differ in independent noise alone, (draws,
            ...); some hundred make the figure good to a few per cent.
        nats: Nats that the latent may hold of all pixels together, at least 0.

    Returns:
        The error, averaged over pixels.

    Raises:
        ValueError: If there are fewer than two draws, they are not finite, or nats are
            negative.
    """
    draws = np.asarray(draws, np.float64)
    if draws.ndim < 2 or len(draws) < 2 or not np.isfinite(draws).all():
        raise ValueError(
            "`draws` must have two finite versions of an image or more, (draws, ...). "
            f"Received: shape {draws.shape}, {np.isnan(draws).sum()} of it NaN"
        )
    if not nats >= 0:
        raise ValueError(f"`nats` must be at least 0. Received: nats={nats}")
    shares = (np.arange(_POINTS) + 0.5) / _POINTS
    values = np.quantile(draws.reshape(len(draws), -1), shares, axis=0)
    values = values[:, values.var(0) > 1e-12]  # the others cost nothing
    pixels = draws[0].size
    variance = values.var(0).sum() / pixels
    if nats == 0 or not values.size:
        return float(variance)
    low, high = -3.0, 5.0  # exponents of 10 of the slope, in units of 1 / variance
    unit = values.shape[1] / values.var(0).sum()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        rate, error = _at_slope(values, unit * 10**middle)
        low, high = (middle, high) if rate < nats else (low, middle)
    return float(error / pixels)


def _at_slope(values: np.ndarray, slope: float) -> tuple[float, float]:
    """Rate and distortion, summed over pixels, where their exchange has a slope.

    Args:
        values: Equally likely values of each pixel, (values, pixels).
        slope: Nats that a unit of squared error less would cost.
    """
    rate = error = 0.0
    for part in np.array_split(values, max(1, values.shape[1] // 64), axis=1):
        # (values, reproductions, pixels): each value may be put in place of another.
        distance = np.square(part[:, None] - part[None])
        kernel = np.exp(-slope * distance)
        likely = np.full(part.shape, 1 / len(part))  # of each reproduction
        for _ in range(_ITERATIONS):
            weight = likely * kernel
            likely = (weight / weight.sum(1, keepdims=True)).mean(0)
        weight = likely * kernel
        total = weight.sum(1, keepdims=True)
        mean = (weight / total * distance).sum(1).mean(0)
        rate += float((-slope * mean - np.log(total).mean((0, 1))).sum())
        error += float(mean.sum())
    return rate, error

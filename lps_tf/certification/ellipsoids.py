"""What is certified with a standard deviation of the noise for each latent dimension.

Noise of standard deviations sigma (latent_dim,) in u is noise of standard deviation 1
in v = u / sigma, dimension by dimension. So the certificate of randomised smoothing in
v is one of an ellipsoid in u: a class of probability p keeps its majority wherever
||u / sigma|| < Phi^-1(p). Its semi-axes are sigma Phi^-1(p), the largest ball in it has
the radius min(sigma) Phi^-1(p), and that is what `radius` always means.

References:
    Eiras et al. (2022), "ANCER: anisotropic certification via sample-wise volume
    maximization", arXiv:2107.04570; UCAN (2025), arXiv:2510.19977.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks, inputs
from lps_tf.sets import latent
from lps_tf.sets.protocol import EncodingSet, LatentSet

#: One standard deviation for all latent dimensions, or one for each, (latent_dim,).
Sigma = float | np.ndarray


def require_encoder(perturbation_set: LatentSet) -> EncodingSet:
    """Returns a set that encodes, or raises ValueError if it does not."""
    if not isinstance(perturbation_set, EncodingSet):
        raise ValueError(
            "To find true perturbations in the set it needs a method "
            "`encode(x, x_perturbed)`. "
            f"Received: {type(perturbation_set).__name__}, without one"
        )
    return perturbation_set


def norm(u: tf.Tensor, sigma: Sigma) -> tf.Tensor:
    """The norm in which the certified ellipsoid is the ball of the certified radius.

    Args:
        u: Latents, (batch, latent_dim).
        sigma: Standard deviations of the noise.

    Returns:
        min(sigma) ||u / sigma||, (batch,); of one sigma, the norm of u.
    """
    if np.ndim(sigma):
        u = u * np.asarray(np.min(sigma) / sigma, np.float32)
    return latent.norm(u)


def semi_axes(radius: Any, sigma: Sigma) -> np.ndarray:
    """The semi-axes of certified ellipsoids.

    Args:
        radius: Certified radii, any shape.
        sigma: Standard deviations of the noise.

    Returns:
        (..., latent_dim), or (..., 1) of one sigma; the smallest is the radius.
    """
    shape = np.atleast_1d(np.asarray(sigma) / np.min(sigma))
    return np.asarray(radius)[..., None] * shape


def equivalent_radius(radius: Any, sigma: Sigma) -> np.ndarray:
    """Radii of the balls with the volumes of certified ellipsoids.

    In d dimensions the ellipsoid has (equivalent radius / radius)^d of the volume of
    the ball that it is certain to hold.

    Args:
        radius: Certified radii, any shape.
        sigma: Standard deviations of the noise.

    Returns:
        The radii times geometric mean / minimum of sigma, of the shape of `radius`.
    """
    logs = np.log(np.asarray(sigma) / np.min(sigma))
    return np.asarray(radius) * np.exp(logs.mean())


def sigma_of_spread(
    perturbation_set: LatentSet, pairs: Any, sigma: float, *, least: float = 0.1
) -> np.ndarray:
    """Standard deviations in proportion to how far true perturbations spread.

    Latent dimensions differ in use: along one that true perturbations reach far, noise
    has to reach far too. The spread of a dimension is the root mean square of the
    encoded latents along it.

    Args:
        perturbation_set: Set that encodes pairs, such as a learned one.
        pairs: Pairs that were not trained on, as for `calibrate`: a tf.data.Dataset of
            batches (x, x_perturbed), or the two arrays in a tuple.
        sigma: Geometric mean of the standard deviations: at the same probability, the
            ellipsoid then has the volume of the ball of noise of this one sigma.
        least: Smallest share of the largest spread that a dimension counts with, in
            (0, 1). A dimension that no perturbation uses would get no noise, and the
            largest ball in the ellipsoid would be a point.

    Returns:
        Standard deviations, (latent_dim,).

    Raises:
        ValueError: If the set cannot encode, there are no pairs, their latents are not
            finite or all zero, or a number is out of its range.
    """
    encoder = require_encoder(perturbation_set)
    sigma = checks.positive("sigma", sigma)
    least = checks.probability("least", least)
    squares, count = np.zeros(encoder.latent_dim), 0
    for x, x_perturbed in inputs.batches(pairs):
        x = checks.images("x", x)
        u = encoder.encode(x, checks.images("x_perturbed", x_perturbed)).numpy()
        squares += np.square(u.astype(np.float64)).sum(0)
        count += len(u)
    if not count:
        raise ValueError("There are no pairs: the data set is empty.")
    spread = np.sqrt(squares / count)
    if not np.isfinite(spread).all() or not spread.any():
        raise ValueError(
            "The latents of the pairs must be finite and not all zero. Received: "
            f"spreads from {spread.min():g} to {spread.max():g}"
        )
    spread = np.maximum(spread, least * spread.max())
    return sigma * spread / np.exp(np.log(spread).mean())

"""Choosing the radius of a perturbation set from latent norms (paper, section 4)."""

from typing import Literal

import numpy as np

from lps_tf._internal import checks

#: Quantiles of latent norms that reports show and attacks are run at.
QUANTILES = {
    "25%": 0.25,
    "50%": 0.5,
    "75%": 0.75,
    "99%": 0.99,
    "99.9%": 0.999,
    "max": 1,
}


def quantiles(norms: np.ndarray) -> dict[str, float]:
    """The quantiles of latent norms, by name."""
    return {name: float(np.quantile(norms, q)) for name, q in QUANTILES.items()}


def choose(
    norms: np.ndarray,
    image: np.ndarray,
    quantile: float | Literal["max"] = "max",
    coverage: float | None = None,
) -> dict:
    """The radius and the statistics that `PerturbationSet.calibrate` keeps.

    Args:
        norms: Latent norms ||u_q|| of validation pairs, (pairs,).
        image: Index of the image that each pair belongs to, (pairs,).
        quantile: Quantile of the norms, "max" or a fraction.
        coverage: Coverage of a conformal radius, which then replaces the quantile.

    Returns:
        method, radius, pairs, images, mean, std and quantiles, as JSON values.

    Raises:
        ValueError: If the norms are not finite, there are too few images for the
            coverage, or a quantile or coverage is outside (0, 1).
    """
    if not np.isfinite(norms).all():
        raise ValueError("The latents are not finite: training has diverged.")
    images = int(image.max()) + 1
    if coverage is not None:
        radius = _conformal(norms, image, checks.probability("coverage", coverage))
        method = f"conformal {coverage:g}"
    elif quantile == "max":
        radius, method = norms.max(), "maximum"
    else:
        radius = np.quantile(norms, checks.probability("quantile", quantile))
        method = f"quantile {quantile:g}"
    return {
        "method": method,
        "radius": float(radius),
        "pairs": len(norms),
        "images": images,
        "mean": float(norms.mean()),
        "std": float(norms.std()),
        "quantiles": quantiles(norms),
    }


def _conformal(norms: np.ndarray, image: np.ndarray, coverage: float) -> float:
    """The ceil((m + 1) coverage)-th smallest of the m images' largest norms."""
    images = int(image.max()) + 1
    # Rounding must not push an exact product such as 20 * .95 up to the next rank.
    rank = int(np.ceil((images + 1) * coverage - 1e-9))
    if rank > images:
        raise ValueError(
            f"A coverage of {coverage} needs at least "
            f"{int(np.ceil(coverage / (1 - coverage) - 1e-9))} images. "
            f"Received: pairs of {images} images."
        )
    largest = np.zeros(images)
    np.maximum.at(largest, image, norms)
    return np.sort(largest)[rank - 1]

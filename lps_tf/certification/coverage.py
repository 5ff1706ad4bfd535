"""How many of the true perturbations of images lie inside of their certificates."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy.stats import beta

from lps_tf._internal import outputs
from lps_tf._internal.checks import VOID
from lps_tf.certification import ellipsoids
from lps_tf.certification.smoothing import SmoothedClassifier


class Coverage(NamedTuple):
    """What certificates say of true perturbations.

    A perturbation lies inside of a certificate if the norm of its encoded latent is at
    most the certified radius, and the certified class is correct. Of noise with a
    standard deviation for each dimension, the norm is that of `ellipsoids.norm`: it
    lies in the certified ellipsoid. Of a segmenter, everything is counted in pixels.

    Attributes:
        perturbations: Number of true perturbations, of all images.
        inside: Share of them that lie inside of a certificate, 0 to 1.
        inside_correct: Share of those inside that the base classifier gets right; None
            if there are none.
        certified: Number of images with a correct certificate.
        accuracy: Share of the perturbations of certified images, near or far, that
            the base classifier gets right; None if none is certified.
        low: Lower end of the 95% interval of the accuracy (Clopper and Pearson, of as
            many images: the perturbations of one are not independent); None too.
        high: Upper end of it.
    """

    perturbations: int
    inside: float
    inside_correct: float | None
    certified: int
    accuracy: float | None
    low: float | None
    high: float | None


def measure(
    smoothed: SmoothedClassifier, x: np.ndarray, versions: np.ndarray, y: np.ndarray
) -> dict[str, np.ndarray]:
    """Latent norms of true perturbations, and whether the base classifier is right.

    Args:
        smoothed: Smoothed classifier.
        x: Images, (images, height, width, channels).
        versions: Their perturbed versions, (images, count, height, width, channels).
        y: Labels of the images, -1 where void.

    Returns:
        norms (images, count), and perturbed_correct, bool (images, count), or (images,
        count, height, width) of a segmenter.

    Raises:
        ValueError: If the set cannot encode a perturbed image.
    """
    pset = ellipsoids.require_encoder(smoothed.perturbation_set)
    count = versions.shape[1]
    flat = versions.reshape(-1, *x.shape[1:])  # (images * count, ...)
    x, y = np.repeat(x, count, 0), np.repeat(y, count, 0)
    norms, correct = [], []
    for start in range(0, len(flat), smoothed.batch_size):
        part = slice(start, start + smoothed.batch_size)
        u = pset.encode(x[part], flat[part])
        norms.append(ellipsoids.norm(u, smoothed.sigma).numpy())
        logits = outputs.logits(smoothed.classifier, tf.convert_to_tensor(flat[part]))
        labels = y[part]
        correct.append((logits.numpy().argmax(-1) == labels) & (labels != VOID))
    right = np.concatenate(correct)
    return {
        "norms": np.concatenate(norms).reshape(-1, count),
        "perturbed_correct": right.reshape(-1, count, *right.shape[1:]),
    }


def summarise(
    norms: np.ndarray,
    perturbed_correct: np.ndarray,
    radius: np.ndarray,
    correct: np.ndarray,
    valid: np.ndarray,
) -> Coverage:
    """What `Coverage` says, of arrays as `measure` and a report have them.

    Args:
        norms: Norms of encoded perturbations, (images, count).
        perturbed_correct: Where the base classifier is right, (images, count, ...).
        radius: Certified radii, (images, ...).
        correct: Where the certified class is correct, (images, ...).
        valid: Where there is a label, (images, ...).
    """
    count = norms.shape[1]
    pixels = tuple(range(1, radius.ndim))
    # All of (images, count, ...).
    near = np.expand_dims(norms, tuple(range(2, radius.ndim + 1)))
    sure = (correct & (radius > 0))[:, None]
    inside = sure & (near <= radius[:, None])
    # Each image's share of its certified pixels' perturbations, or of its own.
    weight = sure[:, 0].sum(pixels)
    there = weight > 0
    right = (perturbed_correct & sure).sum((1, *(axis + 1 for axis in pixels)))
    shares = right[there] / (count * weight[there])
    images, accuracy = int(there.sum()), _mean(shares)
    low, high = (None, None) if accuracy is None else _interval(accuracy, images)
    return Coverage(
        perturbations=int(valid.sum()) * count,
        inside=float(inside.sum() / max(1, int(valid.sum()) * count)),
        inside_correct=_mean(perturbed_correct[inside]),
        certified=images,
        accuracy=accuracy,
        low=low,
        high=high,
    )


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def _interval(share: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Two-sided Clopper-Pearson interval; n times the share need not be whole."""
    k, tail = share * n, (1 - level) / 2
    low = 0.0 if k <= 0 else float(beta.ppf(tail, k, n - k + 1))
    high = 1.0 if k >= n else float(beta.ppf(1 - tail, k + 1, n - k))
    return low, high


def rows(coverage: Coverage) -> dict[str, str]:
    """Lines of a table."""
    c, found = coverage, {}
    found["true perturbations inside of a certificate"] = f"{c.inside:.4f}"
    if c.inside_correct is not None:
        found["accuracy on these"] = f"{c.inside_correct:.4f}"
    if c.accuracy is not None:
        interval = f"95% interval {c.low:.4f} to {c.high:.4f}"
        found["accuracy on all of certified images"] = f"{c.accuracy:.4f}, {interval}"
    return found

"""Theorems 1 and 2 of the paper's section 3, as numbers for a model and its pairs.

A trained conditional VAE has, for a pair (x, x_perturbed),

    E_q[log p(x_perturbed | x, z)] = R   and   KL(q || p) = 1/2 sum_i K_i,

with q = N(m, diag s^2) the posterior in standardised coordinates, in which the prior
is N(0, I), and K_i = m_i^2 + s_i^2 - 1 - log s_i^2. From R and the K_i alone:

*The ball.* Both m_i^2 and s_i^2 - 1 - log s_i^2 are at least 0, so both are at most
K_i: the first gives |m_i| <= sqrt(K_i), the second s_i^2 <= -W(-exp(-K_i - 1)) with
the lower branch W_-1 of Lambert's function. Let B be the largest such bound on s_i and
r the radius that holds 1 - alpha of a standard normal in k dimensions. A sample
u = m + s n with ||n|| <= r has ||u|| <= sqrt(sum K_i) + B r = radius: the ball of that
radius holds at least 1 - alpha of q.

*Theorem 1.* The distortion D (squared error, or cross-entropy) is not negative, so its
mean over q inside the ball is at most E_q[D] / (1 - alpha), and some u in the ball is
no worse than that mean.

*Theorem 2.* Let q' and p' be q and the prior truncated to the ball. By Jensen,
log E_p'[p(x_perturbed | x, u)] >= E_q'[log p] - KL(q' || p'). Theorem 1 bounds the
first term. KL splits over the ball and what is outside of it into
q(ball) KL(q' || p') + terms that are not negative = KL(q || p), so that
KL(q' || p') <= KL(q || p) / (1 - alpha).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
import tensorflow as tf
from matplotlib.figure import Figure

from lps_tf._internal import checks, drawing
from lps_tf._internal.progress import progress
from lps_tf._internal.report import Report
from lps_tf.sets import latent
from lps_tf.sets.likelihoods import Bernoulli, Gaussian
from lps_tf.sets.pairs import Pairs
from lps_tf.sets.perturbation_set import PerturbationSet
from lps_tf.sets.protocol import decode_compiled
from lps_tf.sets.rate_distortion import least_error as least_error


@dataclass(frozen=True)
class Bounds(Report):
    """What theorems 1 and 2 say of each pair, and a latent that shows it.

    The distortion is the squared error (Gaussian) or the cross-entropy in nats
    (Bernoulli), summed over pixels. Arrays have one entry a pair.

    Attributes:
        alpha: Share of the posterior that may lie outside of the ball.
        expected_log_likelihood: R, the mean of log p over posterior samples, in nats.
        kl: KL(posterior || prior), in nats.
        k: K_i of each latent dimension, (pairs, latent_dim).
        mass_radius: Radius r, which holds 1 - alpha of a standard normal.
        std_bound: Bound B, which no standard deviation of the posterior exceeds.
        radius: Radius of the theorems' ball.
        distortion: Theorem 1: some latent in the ball is at most this far off.
        log_likelihood: Theorem 2: log E[p(x_perturbed | x, u)] over the truncated
            prior is at least this, in nats.
        witness_distortion: The least distortion of the posterior samples in the ball.
        witness_norm: Norm of that sample.
    """

    alpha: float
    expected_log_likelihood: np.ndarray
    kl: np.ndarray
    k: np.ndarray
    mass_radius: float
    std_bound: np.ndarray
    radius: np.ndarray
    distortion: np.ndarray
    log_likelihood: np.ndarray
    witness_distortion: np.ndarray
    witness_norm: np.ndarray

    def __str__(self) -> str:
        rows = {
            "pairs": len(self.kl),
            "R, expected log-likelihood, nats": self.expected_log_likelihood.mean(),
            "KL(posterior || prior), nats": self.kl.mean(),
            f"r, which holds {1 - self.alpha:g} of a standard normal": self.mass_radius,
            "B, bound on the posterior's std": self.std_bound.mean(),
            "radius of the ball": self.radius.mean(),
            "theorem 1: distortion at most": self.distortion.mean(),
            "  found in the ball": self.witness_distortion.mean(),
            "  at norm": self.witness_norm.mean(),
            "theorem 2: log-likelihood at least, nats": self.log_likelihood.mean(),
        }
        width = max(map(len, rows))
        return "\n".join(f"{text:{width}}  {value:.5g}" for text, value in rows.items())

    def to_dict(self) -> dict[str, Any]:
        """Means over pairs, and what is the same for all of them."""
        means = (
            "expected_log_likelihood",
            "kl",
            "std_bound",
            "radius",
            "distortion",
            "log_likelihood",
            "witness_distortion",
            "witness_norm",
        )
        return {
            "pairs": len(self.kl),
            "alpha": self.alpha,
            "mass_radius": self.mass_radius,
            **{name: float(getattr(self, name).mean()) for name in means},
        }

    def _figures(self) -> dict[str, Figure]:
        """The figures by name.

        They are "latent_use" (KL of each latent dimension, the most used one first)
        and "theorem_1" (the bound of each pair, and what was found).
        """
        use, theorem_1 = (Figure(figsize=(4, 3), layout="constrained") for _ in "ab")
        kl = np.sort(self.k.mean(0) / 2)[::-1]
        axis = use.subplots()
        axis.bar(1 + np.arange(len(kl)), kl, color=drawing.COLOURS[0])
        axis.set(xlabel="latent dimension, by use", ylabel="KL, nats")
        axis = theorem_1.subplots()
        found, colour = self.witness_distortion, drawing.COLOURS[3]
        axis.scatter(self.distortion, found, s=8, c=colour)
        axis.axline((0, 0), slope=1, color=drawing.COLOURS[6], ls="--", lw=1)
        axis.set(xlabel="distortion at most", ylabel="found in the ball")
        return {"latent_use": use, "theorem_1": theorem_1}


def std_bound(k: np.ndarray) -> np.ndarray:
    """Largest standard deviation s with s^2 - 1 - log s^2 <= k.

    That s^2 is -W_-1(-exp(-k - 1)). SciPy's Lambert W underflows beyond k = 744 and
    loses digits near 0; Newton's method does neither.

    Args:
        k: Numbers of at least 0, any shape.

    Returns:
        Standard deviations of at least 1, of that shape.
    """
    k = np.maximum(np.asarray(k, np.float64), 0)
    # With t = log s^2 the equation is e^t - 1 - t = k, convex: from a start beyond
    # the root, Newton's steps never pass it. Both of these are beyond it.
    t = np.minimum(np.sqrt(2 * k), np.log(2 * k + 2))
    for _ in range(60):
        slope = np.expm1(t)
        t -= np.where(slope > 0, slope - t - k, 0) / np.where(slope > 0, slope, 1)
    return np.exp(t / 2)


def ball(k: np.ndarray, alpha: float) -> tuple[float, np.ndarray, np.ndarray]:
    """The ball that holds at least 1 - alpha of every posterior with these K_i.

    Args:
        k: K_i, (pairs, latent_dim).
        alpha: Share that may lie outside, in (0, 1).

    Returns:
        r, B (pairs,) and the radius (pairs,); see the module.
    """
    alpha = checks.probability("alpha", alpha)
    mass_radius = float(scipy.stats.chi.isf(alpha, k.shape[1]))
    largest = std_bound(k.max(1))
    return mass_radius, largest, largest * mass_radius + np.sqrt(k.sum(1))


def bounds(
    perturbation_set: PerturbationSet,
    pairs: Any,
    *,
    alpha: float = 0.05,
    num_samples: int = 100,
    seed: int = 0,
    verbose: bool = True,
) -> Bounds:
    """The bounds of theorems 1 and 2 for each pair.

    R is a mean over posterior samples, and so known up to their noise; K_i is exact.

    Args:
        perturbation_set: Trained set; its radius is not needed.
        pairs: Whatever `fit` takes, such as a tf.data.Dataset of batches
            (x, x_perturbed), or the arrays (x, x_perturbed) in a tuple.
        alpha: Share of the posterior that may lie outside of the ball, in (0, 1).
        num_samples: Number of posterior samples a pair.
        seed: Seed of the samples.
        verbose: Whether to show progress.

    Returns:
        `Bounds`.

    Raises:
        ValueError: If there is no pair or no end of them, they are not images of the
            set's shape, or a number is out of its range.
    """
    alpha = checks.probability("alpha", alpha)
    num_samples = checks.count("num_samples", num_samples)
    pset, variance = perturbation_set, perturbation_set.pixel_variance
    distortion_of = (Bernoulli if variance is None else Gaussian).reconstruction

    @tf.function(autograph=False, reduce_retracing=True)
    def posterior_of(x: tf.Tensor, x_perturbed: tf.Tensor) -> tuple:
        prior, posterior = pset.prior(x), pset.posterior(x, x_perturbed)
        m = (posterior.mean() - prior.mean()) / prior.stddev()
        s = posterior.stddev() / prior.stddev()
        return m, s, pset.condition(x)

    @tf.function(autograph=False, reduce_retracing=True)
    def sample(*inputs: Any) -> tuple[tf.Tensor, tf.Tensor]:
        m, s, conditioned, x_perturbed, key = inputs
        u = m + s * latent.standard_normal(tf.shape(m), key)
        image = decode_compiled(pset, conditioned, u)
        return latent.norm(u), distortion_of(image, x_perturbed)

    results = []
    batches = progress(Pairs(pset, pairs), "theorems 1 and 2", verbose)
    for i, (x, x_perturbed) in enumerate(batches):
        m, s, conditioned = posterior_of(x, x_perturbed)
        keys = latent.split(tf.constant([seed, i]), num_samples)
        samples = [sample(m, s, conditioned, x_perturbed, key) for key in keys]
        norms, distortions = (np.stack(v, 1) for v in zip(*samples, strict=True))
        results.append((m.numpy(), s.numpy(), norms, distortions))
    m, s, norms, distortions = (
        np.concatenate(part).astype(np.float64) for part in zip(*results, strict=True)
    )

    def log_p(distortion: np.ndarray) -> np.ndarray:
        if variance is None:
            return -distortion
        pixels = np.prod(x.shape[1:])
        return -(distortion / variance + pixels * np.log(2 * np.pi * variance)) / 2

    k = m**2 + s**2 - 1 - np.log(s**2)
    kl = k.sum(1) / 2
    mass_radius, largest, radius = ball(k, alpha)
    distortion = distortions.mean(1) / (1 - alpha)
    inside = np.where(norms <= radius[:, None], distortions, np.inf)
    best = inside.argmin(1)[:, None]
    return Bounds(
        alpha=alpha,
        expected_log_likelihood=log_p(distortions.mean(1)),
        kl=kl,
        k=k,
        mass_radius=mass_radius,
        std_bound=largest,
        radius=radius,
        distortion=distortion,
        log_likelihood=log_p(distortion) - kl / (1 - alpha),
        witness_distortion=np.take_along_axis(inside, best, 1)[:, 0],
        witness_norm=np.take_along_axis(norms, best, 1)[:, 0],
    )

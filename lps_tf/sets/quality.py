"""Is a learned perturbation set any good? The measures of the paper's section 4."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from lps_tf._internal import checks, drawing, xla
from lps_tf._internal.progress import progress
from lps_tf._internal.report import Report
from lps_tf.sets import calibration, latent
from lps_tf.sets.likelihoods import LIKELIHOODS, Bernoulli
from lps_tf.sets.nearest import Nearest, nearest, signed_error, squared_error
from lps_tf.sets.pairs import Pairs
from lps_tf.sets.perturbation_set import PerturbationSet
from lps_tf.sets.protocol import Conditioned, decode_compiled
from lps_tf.sets.search import Parameters, Problem, gradient_step, initial, search

__all__ = ["Nearest", "Pictures", "QualityReport", "evaluate", "nearest"]

_TABLE = {
    "pairs": "pairs",
    "radius": "radius of the ball",
    "pair_mse": "mean squared error of x itself",
    "reconstruction": "reconstruction, nats or squared error an image",
    "kl": "KL divergence, nats an image",
    "reconstruction_mse": "reconstruction, mean squared error",
    "encoder_ae": "encoder approximation error (Enc. AE)",
    "pgd_ae": "PGD approximation error (PGD AE)",
    "eae": "expected approximation error (EAE)",
    "oae": "over-approximation error (OAE)",
}


class Pictures(NamedTuple):
    """What `QualityReport.plot` shows of the set, in 8 bits."""

    x: np.ndarray  # (images, height, width, channels)
    perturbed: np.ndarray  # of the shape of x, as the data have it
    from_the_set: np.ndarray  # of the shape of x, by the encoder's projected latents
    samples: np.ndarray  # (samples, images, height, width, channels)
    interpolation: np.ndarray  # (8, 8, height, width, channels), of the first image


@dataclass(frozen=True)
class QualityReport(Report):
    """How well a set holds the perturbations seen, and how far beyond it reaches.

    Errors are mean squared errors over pixels, averaged over pairs.

    Attributes:
        pairs: Number of pairs.
        radius: Radius of the ball that was measured.
        pair_mse: Error of x itself.
        reconstruction: First term of the training objective, an image.
        kl: Second term, in nats an image.
        reconstruction_mse: Error of the reconstruction.
        encoder_ae: Encoder approximation error. This one and the next say whether the
            set contains the perturbations seen.
        pgd_ae: PGD approximation error.
        eae: Expected approximation error: how far typical members are from them.
        oae: Over-approximation error: how far the set reaches.
        cross_entropy: The errors by name, as binary cross-entropy a pixel; None unless
            the likelihood is Bernoulli.
        errors: Errors of each pair by name, each (pairs,).
        norms: Latent norm ||u_q|| of each pair, (pairs,).
        pictures: Images for `plot`.
    """

    pairs: int
    radius: float
    pair_mse: float
    reconstruction: float
    kl: float
    reconstruction_mse: float
    encoder_ae: float
    pgd_ae: float
    eae: float
    oae: float
    cross_entropy: dict[str, float] | None
    errors: dict[str, np.ndarray]
    norms: np.ndarray
    pictures: Pictures

    def __str__(self) -> str:
        width = max(map(len, _TABLE.values()))
        return "\n".join(f"{text:{width}}  {value}" for text, value in self._values())

    def _values(self) -> list[list[str]]:
        """Lines of the table: what is measured, and the value."""
        return [[text, f"{getattr(self, k):.5g}"] for k, text in _TABLE.items()]

    def _tables(self) -> list[list[list[str]]]:
        return [[["measure", "value"], *self._values()]]

    def to_dict(self) -> dict[str, Any]:
        """The measures by name, and quantiles of the latent norms."""
        return {
            **{name: getattr(self, name) for name in _TABLE},
            "cross_entropy": self.cross_entropy,
            "norm_quantiles": calibration.quantiles(self.norms),
        }

    def _figures(self) -> dict[str, Figure]:
        """The figures by name.

        They are "pairs" (original, perturbed, from the set), "samples" (of many
        images), "interpolation" (between four encoded pairs) and "norms" (density of
        the latent norms, with the radius).
        """
        shown = Pictures(*(picture / np.float32(255) for picture in self.pictures))
        samples = {f"sample {i + 1}": s for i, s in enumerate(shown.samples)}
        pairs = {
            "x": shown.x,
            "perturbed": shown.perturbed,
            "from the set": shown.from_the_set,
        }
        return {
            "pairs": drawing.rows(pairs),
            "samples": drawing.rows({"x": shown.x, **samples}),
            "interpolation": drawing.grid(shown.interpolation),
            "norms": drawing.norm_density(self.norms, self.radius),
        }


def evaluate(
    perturbation_set: PerturbationSet,
    pairs: Any,
    *,
    radius: float | None = None,
    steps: int = 50,
    relative_step: float = 0.05,
    num_samples: int = 5,
    seed: int = 0,
    verbose: bool = True,
) -> QualityReport:
    """Measures a set on test pairs (paper, section 4).

    Args:
        perturbation_set: Trained set, calibrated unless `radius` is given.
        pairs: Pairs that were neither trained nor calibrated on: whatever `fit` takes,
            such as a tf.data.Dataset of batches (x, x_perturbed), or the arrays
            (x, x_perturbed) in a tuple.
        radius: Radius of the ball; None for the set's own.
        steps: Number of steps of projected gradient descent (PGD AE) and ascent (OAE).
        relative_step: Length of a step as a fraction of the radius.
        num_samples: Number of truncated prior samples for each pair (EAE).
        seed: Seed of all that is random: samples, starts, posterior latents.
        verbose: Whether to show progress.

    Returns:
        A `QualityReport`.

    Raises:
        ValueError: If there is no radius, no pair or no end of them, or they are not
            images of the set's shape.
    """
    pset, radius = perturbation_set, perturbation_set.require_radius(radius)
    num_samples = checks.count("num_samples", num_samples)
    numbers = {
        "radius": tf.constant(radius),
        "relative_step": tf.constant(checks.positive("relative_step", relative_step)),
        # The last step of a search only looks at where the others led.
        "steps": tf.constant(checks.count("steps", steps) + 1),
        "variance": tf.constant(pset.pixel_variance or 1.0),
    }
    results: list[dict] = []
    batches = progress(Pairs(pset, pairs), "quality", verbose)
    for i, (x, x_perturbed) in enumerate(batches):
        if not results:
            examples, size = _different(x, x_perturbed), len(x)
        key = tf.constant([seed, i])
        measure = xla.graph_of(_measure, pset)
        # A last batch that is smaller is filled up: to compile for its size would take
        # longer than to measure it.
        rows = np.arange(max(size, len(x))) % len(x)
        batch = tf.gather(x, rows), tf.gather(x_perturbed, rows)
        found = measure(pset, num_samples, numbers, *batch, key)
        results.append(tf.nest.map_structure(operator.itemgetter(slice(len(x))), found))
    total = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *results)
    mean = {k: float(v.mean()) for k, v in {**total["elbo"], **total["mse"]}.items()}
    bce = {name: float(v.mean()) for name, v in total["bce"].items()}
    return QualityReport(
        pairs=len(total["norm"]),
        radius=radius,
        **mean,
        cross_entropy=bce if pset.likelihood_name == "bernoulli" else None,
        errors=total["mse"],
        norms=total["norm"],
        pictures=_pictures(pset, radius, *examples),
    )


# Traced once for a set, and for every radius, step and seed.
def _measure(
    pset: PerturbationSet,
    num_samples: int,
    numbers: Parameters,
    x: tf.Tensor,
    x_perturbed: tf.Tensor,
    key: tf.Tensor,
) -> dict:
    """The measures of each pair of a batch, all (batch,)."""
    keys = latent.split(key, num_samples + 2)
    radius, conditioned = numbers["radius"], pset.condition(x)
    prior, posterior = pset.prior(x), pset.posterior(x, x_perturbed)
    z = latent.draw(posterior, keys[0])  # (batch, latent_dim)
    reconstructed = pset.likelihood(x, z).mean()
    likelihood = LIKELIHOODS[pset.likelihood_name]
    elbo = {
        "reconstruction": likelihood.reconstruction(
            reconstructed, x_perturbed, numbers["variance"]
        ),
        "kl": posterior.kl_divergence(prior),
    }
    u_q = pset.encode(x, x_perturbed)  # (batch, latent_dim), as all latents below
    inside = latent.project(u_q, radius)
    start = latent.sample_uniform_radius(tf.shape(u_q), radius, keys[1])
    latents = {
        "encoder_ae": [inside],
        "pgd_ae": [_extreme(pset, conditioned, x_perturbed, inside, -1.0, numbers)],
        "eae": [
            latent.sample_truncated_normal(
                (tf.shape(u_q)[0], u_q.shape[1]), radius, keys[2 + i]
            )
            for i in range(num_samples)
        ],
        "oae": [_extreme(pset, conditioned, x_perturbed, start, 1.0, numbers)],
    }
    images = {
        name: [decode_compiled(pset, conditioned, u) for u in several]
        for name, several in latents.items()
    }
    images |= {"reconstruction_mse": [reconstructed], "pair_mse": [x]}
    return {
        "mse": _errors(squared_error, images, x_perturbed),
        "bce": _errors(_cross_entropy, images, x_perturbed),
        "elbo": elbo,
        "norm": latent.norm(u_q),
    }


def _extreme(
    pset: PerturbationSet,
    conditioned: Conditioned,
    target: tf.Tensor,
    u: tf.Tensor,
    sign: float,
    numbers: Parameters,
) -> tf.Tensor:
    """Latents of least (sign -1) or greatest (1) error that a search from u meets."""
    rows = tf.shape(u)[0]
    parameters = {
        "radius": tf.fill((rows,), numbers["radius"]),
        "relative_step": numbers["relative_step"],
        "sign": tf.constant(sign),
    }
    problem = Problem(
        gradient_step,
        signed_error,
        pset,
        None,  # no classifier
        conditioned,
        target,
        parameters,
        numbers["steps"],
    )
    return search(problem, rows, initial(u))["worst"]


def _errors(
    error: Callable, images: dict[str, list[tf.Tensor]], target: tf.Tensor
) -> dict[str, tf.Tensor]:
    return {
        name: tf.add_n([error(image, target) for image in list_]) / len(list_)
        for name, list_ in images.items()
    }


def _cross_entropy(image: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    return Bernoulli.reconstruction(image, target) / np.prod(image.shape[1:])


def _different(
    x: tf.Tensor, x_perturbed: tf.Tensor, most: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """The first pairs of different images, for the pictures."""
    first = {image.tobytes(): i for i, image in reversed([*enumerate(x.numpy())])}
    keep = sorted(first.values())[:most]
    return x.numpy()[keep], x_perturbed.numpy()[keep]


def _pictures(
    pset: PerturbationSet, radius: float, x: np.ndarray, x_perturbed: np.ndarray
) -> Pictures:
    """What the report shows of a few pairs of different images."""
    u = latent.project(pset.encode(x, x_perturbed), radius)
    images = (
        x,
        x_perturbed,
        pset.perturb(x, u),
        pset.sample(x, 8, radius=radius, seed=0),
        pset.interpolate(x[:1], tf.gather(u, np.arange(4) % len(x))),
    )
    return Pictures(*(np.uint8(np.rint(255 * np.asarray(i))) for i in images))

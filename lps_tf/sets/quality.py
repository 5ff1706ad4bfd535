"""Is a learned perturbation set any good? The measures of the paper's section 4."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from lps_tf import plots
from lps_tf._internal import checks, files
from lps_tf._internal.progress import progress
from lps_tf.sets import latent
from lps_tf.sets.likelihoods import Bernoulli
from lps_tf.sets.perturbation_set import PerturbationSet
from lps_tf.sets.protocol import Conditioned

_TABLE = (
    ("pairs", "pairs"),
    ("radius", "radius of the ball"),
    ("pair_mse", "mean squared error of x itself"),
    ("reconstruction", "reconstruction, nats or squared error an image"),
    ("kl", "KL divergence, nats an image"),
    ("reconstruction_mse", "reconstruction, mean squared error"),
    ("encoder_ae", "encoder approximation error (Enc. AE)"),
    ("pgd_ae", "PGD approximation error (PGD AE)"),
    ("eae", "expected approximation error (EAE)"),
    ("oae", "over-approximation error (OAE)"),
)


@dataclass
class QualityReport:
    """How well a set holds the perturbations seen, and how far beyond it reaches.

    Errors are mean squared errors over pixels, averaged over pairs; `cross_entropy`
    has the same ones as binary cross-entropy a pixel, for Bernoulli sets.

    Attributes:
        values: the measures by name; `encoder_ae` and `pgd_ae` say whether the set
            contains the perturbations seen, `eae` how far its typical members are
            from them, `oae` how far it reaches.
        cross_entropy: the errors as binary cross-entropy, None for Gaussian sets.
        errors: the errors of each pair, by name, each (pairs,).
        norms: latent norm ||u_q|| of each pair, (pairs,).
    """

    values: dict[str, float]
    cross_entropy: dict[str, float] | None
    errors: dict[str, np.ndarray]
    norms: np.ndarray
    _perturbation_set: PerturbationSet
    _examples: tuple[np.ndarray, np.ndarray]

    def __getattr__(self, name: str) -> float:
        try:
            return self.__dict__["values"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __str__(self) -> str:
        width = max(len(text) for _, text in _TABLE)
        return "\n".join(f"{text:{width}}  {self.values[k]:.5g}" for k, text in _TABLE)

    def to_json(self, path: str | Path | None = None) -> str:
        """The measures as JSON; written to `path` if one is given."""
        norms = np.quantile(self.norms, (0.25, 0.5, 0.75, 0.99, 1))
        names = ("25%", "50%", "75%", "99%", "max")
        content = {
            **self.values,
            "cross_entropy": self.cross_entropy,
            "norm_quantiles": dict(zip(names, map(float, norms), strict=True)),
        }
        text = json.dumps(content, indent=1)
        if path is not None:
            files.write_text(path, text + "\n")
        return text

    def plot(self, directory: str | Path | None = None) -> dict[str, Figure]:
        """Pictures of the set; saved as PNG if a directory is given.

        Returns:
            Figures: "pairs" (original, perturbed, reconstruction), "samples" (of many
            images), "interpolation" (between four encoded pairs) and "norms" (density
            of the latent norms, with the radius).
        """
        pset, (x, x_perturbed) = self._perturbation_set, self._examples
        radius = self.values["radius"]
        u = latent.project(pset.encode(x, x_perturbed), radius)
        samples = pset.sample(x, 8, radius=radius, seed=0)
        corners = tf.gather(u, np.arange(4) % len(x))
        figures = {
            "pairs": plots.rows(
                {"x": x, "perturbed": x_perturbed, "from the set": pset.perturb(x, u)}
            ),
            "samples": plots.rows(
                {"x": x, **{f"sample {i + 1}": s for i, s in enumerate(samples)}}
            ),
            "interpolation": plots.grid(pset.interpolate(x[:1], corners)),
            "norms": plots.norm_density(self.norms, radius),
        }
        if directory is not None:
            for name, figure in figures.items():
                files.write(Path(directory) / f"{name}.png", plots.png(figure))
        return figures


def evaluate(
    perturbation_set: PerturbationSet,
    pairs: tf.data.Dataset,
    *,
    radius: float | None = None,
    steps: int = 50,
    relative_step: float = 0.05,
    samples: int = 5,
    seed: int = 0,
    verbose: bool = True,
) -> QualityReport:
    """Measures a set on test pairs (paper, section 4).

    Args:
        perturbation_set: a trained set, calibrated unless `radius` is given.
        pairs: batches (x, x_perturbed) that were neither trained nor calibrated on.
        radius: of the ball, default the set's own.
        steps: of the projected gradient descent (PGD AE) and ascent (OAE).
        relative_step: length of a step as a fraction of the radius.
        samples: truncated prior samples for each pair (EAE).
        seed: of the samples, starts and posterior draws.
        verbose: whether to show progress.

    Returns:
        A `QualityReport`.

    Raises:
        ValueError: if there is no radius, no pair, or a bad image.
    """
    pset, radius = perturbation_set, perturbation_set.require_radius(radius)
    steps, samples = checks.count("steps", steps), checks.count("samples", samples)
    step = radius * checks.positive("relative_step", relative_step)

    @tf.function(autograph=False, reduce_retracing=True)
    def measure(x: tf.Tensor, x_perturbed: tf.Tensor, key: tf.Tensor) -> dict:
        keys = latent.split(key, samples + 2)
        conditioned = pset.condition(x)
        u_q = pset.encode(x, x_perturbed)
        posterior = pset.posterior(x, x_perturbed)
        z = latent.draw(posterior, keys[0])
        reconstructed = pset.likelihood(x, z).mean()
        inside = latent.project(u_q, radius)

        def extreme(u: tf.Tensor, step: float) -> tf.Tensor:
            numbers = (tf.constant(v) for v in (step, radius, steps))
            return _extreme(pset, conditioned, x_perturbed, u, *numbers)

        nearest = extreme(inside, -step)
        start = latent.sample_uniform_radius(tf.shape(u_q), radius, keys[1])
        furthest = extreme(start, step)
        images = {
            "encoder_ae": [pset.decode(conditioned, inside)],
            "pgd_ae": [pset.decode(conditioned, nearest)],
            "eae": [
                pset.decode(
                    conditioned,
                    latent.sample_truncated_normal(
                        (tf.shape(u_q)[0], u_q.shape[1]), radius, keys[2 + i]
                    ),
                )
                for i in range(samples)
            ],
            "oae": [pset.decode(conditioned, furthest)],
            "reconstruction_mse": [reconstructed],
            "pair_mse": [x],
        }
        reconstruction, kl = pset.elbo_terms(x, x_perturbed)
        return {
            "mse": _errors(_squared_error, images, x_perturbed),
            "bce": _errors(_cross_entropy, images, x_perturbed),
            "elbo": {"reconstruction": reconstruction, "kl": kl},
            "norm": latent.norm(u_q),
        }

    results, examples = [], None
    batches = list(enumerate(pairs))
    if not batches:
        raise ValueError("There are no pairs: the data set is empty.")
    for i, (x, x_perturbed) in progress(batches, "quality", verbose):
        x = checks.images("x", x)
        x_perturbed = checks.images("x_perturbed", x_perturbed)
        checks.same_shape("x", x, "x_perturbed", x_perturbed)
        examples = examples or _different(x, x_perturbed)
        results.append(measure(x, x_perturbed, tf.constant([seed, i])))
    total = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *results)
    mse = total["mse"]
    mean = {name: float(v.mean()) for name, v in {**total["elbo"], **mse}.items()}
    bce = {name: float(v.mean()) for name, v in total["bce"].items()}
    return QualityReport(
        values={"pairs": len(total["norm"]), "radius": radius, **mean},
        cross_entropy=bce if pset.likelihood_name == "bernoulli" else None,
        errors=mse,
        norms=total["norm"],
        _perturbation_set=pset,
        _examples=examples,
    )


@tf.function(autograph=False, reduce_retracing=True)
def _extreme(
    pset: PerturbationSet,
    conditioned: Conditioned,
    target: tf.Tensor,
    u: tf.Tensor,
    step: tf.Tensor,
    radius: tf.Tensor,
    steps: tf.Tensor,
) -> tf.Tensor:
    """The latents of least (step < 0) or greatest error that gradient steps meet."""
    fixed = (pset, conditioned, target, step, radius)
    turn = _turn if tf.distribute.has_strategy() else _compiled_turn
    first = tf.fill((tf.shape(u)[0],), -np.inf)
    # One more turn than steps: the last one only looks at where the steps led.
    return tf.while_loop(
        lambda i, *_: i <= steps,
        lambda i, *state: (i + 1, *turn(*fixed, *state)),
        (0, u, first, u),
    )[3]


def _turn(
    pset: PerturbationSet,
    conditioned: Conditioned,
    target: tf.Tensor,
    step: tf.Tensor,
    radius: tf.Tensor,
    u: tf.Tensor,
    best: tf.Tensor,
    best_u: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """A gradient step from u, and the best latents so far with u among them."""

    def error(u: tf.Tensor) -> tuple[tf.Tensor, None]:
        return _squared_error(pset.decode(conditioned, u), target), None

    with pset.uncompiled():
        value, _, direction = latent.ascent_direction(error, u)
    moved = latent.project(u + step * direction, radius)
    value *= tf.sign(step)
    best_u = tf.where((value > best)[:, None], u, best_u)
    return moved, tf.maximum(best, value), best_u


_compiled_turn = tf.function(
    _turn, jit_compile=True, autograph=False, reduce_retracing=True
)


def _errors(
    error: Callable, images: dict[str, list[tf.Tensor]], target: tf.Tensor
) -> dict[str, tf.Tensor]:
    return {
        name: tf.add_n([error(image, target) for image in list_]) / len(list_)
        for name, list_ in images.items()
    }


def _squared_error(image: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.square(image - target), (1, 2, 3))


def _cross_entropy(image: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    return Bernoulli.reconstruction(image, target) / np.prod(image.shape[1:])


def _different(
    x: tf.Tensor, x_perturbed: tf.Tensor, most: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """The first pairs of different images, for the pictures."""
    first = {image.tobytes(): i for i, image in reversed([*enumerate(x.numpy())])}
    keep = sorted(first.values())[:most]
    return x.numpy()[keep], x_perturbed.numpy()[keep]

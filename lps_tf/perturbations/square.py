"""Random search in the latent ball, for classifiers whose gradients lead nowhere."""

from typing import ClassVar

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks, outputs
from lps_tf.perturbations.base import LatentAttack
from lps_tf.perturbations.losses import all_wrong, cross_entropy, margin, over_image
from lps_tf.sets import latent
from lps_tf.sets.protocol import LatentSet
from lps_tf.sets.search import Look, Parameters, Problem, State, initial

# Andriushchenko et al. (2020): the share of the change begins at 0.8, and is halved
# after these numbers of queries out of 10,000.
_FIRST_SHARE = 0.8
_HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def _keep_the_best(state: State, look: Look, parameters: Parameters) -> State:
    better = look.value > state["best"]
    base = latent.where(better, state["u"], state["base"])
    radius = parameters["radius"]
    move = tf.gather(parameters["moves"], state["step"])  # (batch, latent_dim)
    return {
        "best": tf.where(better, look.value, state["best"]),
        "base": base,
        "u": latent.project(base + radius[:, None] * move, radius),
    }


def _margin(
    problem: Problem, u: tf.Tensor
) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
    images = problem.perturbation_set.decode(problem.conditioned, u)
    logits, y = outputs.logits(problem.classifier, images), problem.y
    loss = over_image(cross_entropy(logits, y))
    return over_image(margin(logits, y)), (loss, all_wrong(logits, y))


class LatentSquare(LatentAttack):
    """Square attack in latent space: random changes, kept if the margin gets smaller.

    The attack of Andriushchenko et al. (2020) for l2 balls of images moves a share of
    the squared norm, which shrinks as the search goes on, from one square window to
    another one, with a fixed pattern inside. A latent has no neighbours to make windows
    of. Here the change is a random direction of a random block of coordinates, of the
    same share of them, as long as if that share of the squared norm had moved from one
    block to another: radius * sqrt(2 * share). The result is projected on the ball, so
    that it may go inside, which the original does not: a decoder's worst latent need
    not be on the sphere. Starts are on the sphere.

    Without gradients it needs many looks, of about a third of the cost. Where it finds
    what gradients miss, these are masked.

    Args:
        perturbation_set: Set to search; calibrated, unless `radius` is given.
        radius: Radius of the ball, default that of the set; it may be set later too.
        num_queries: Number of changes tried in a search.
        restarts: Number of searches.
        seed: Seed of starts and changes. All examples get the same changes.

    Raises:
        ValueError: If there is no radius, or a number is not positive.

    References:
        Andriushchenko, Croce, Flammarion and Hein (2020), "Square attack: a
        query-efficient black-box adversarial attack via random search",
        arXiv:1912.00049.
    """

    FIXED: ClassVar[tuple[str, ...]] = (*LatentAttack.FIXED, "num_queries")

    rule = staticmethod(_keep_the_best)
    objective = staticmethod(_margin)
    names = ("Square",)
    uses_gradient = False

    def __init__(
        self,
        perturbation_set: LatentSet,
        *,
        radius: float | None = None,
        num_queries: int = 1000,
        restarts: int = 1,
        seed: int = 0,
    ):
        num_queries = checks.count("num_queries", num_queries)
        super().__init__(perturbation_set, radius, num_queries, restarts, seed)
        self.num_queries = num_queries

    def parameters(self) -> Parameters:
        """The changes to try, for a ball of radius 1, (queries, latent_dim)."""
        # Searches that are over, whose rows go along, are at num_queries + 1.
        rows, dim = self.num_queries + 2, self.perturbation_set.latent_dim
        random = np.random.default_rng([abs(self.seed), rows, dim])
        share = shares(self.num_queries)[:, None]  # (rows, 1)
        size = np.maximum(1, np.round(share * dim))
        # The block is where random numbers are among the smallest of their row.
        rank = random.random((rows, dim)).argsort(1).argsort(1)
        moves = random.standard_normal((rows, dim)) * (rank < size)
        moves /= np.linalg.norm(moves, axis=1, keepdims=True)
        return {"moves": tf.constant(np.sqrt(2 * share) * moves, tf.float32)}

    def begin(self, u: tf.Tensor, radius: tf.Tensor) -> State:
        """The state at starts on the sphere, with the best latents so far."""
        u = radius[:, None] * latent.unit(u)
        best = tf.fill(tf.shape(radius), float("-inf"))
        return {**initial(u), "base": u, "best": best}


def shares(num_queries: int) -> np.ndarray:
    """The share of the change at each query, (num_queries + 2,)."""
    query = np.arange(num_queries + 2) * 10_000 / num_queries
    return _FIRST_SHARE / 2.0 ** np.searchsorted(_HALVED, query)

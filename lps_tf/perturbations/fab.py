"""FAB: the nearest misclassified latent, by steps on linearised boundaries."""

from typing import ClassVar

import tensorflow as tf

from lps_tf._internal import checks
from lps_tf.perturbations.base import LatentAttack
from lps_tf.perturbations.losses import targeted_margin, towards_target
from lps_tf.sets import latent
from lps_tf.sets.protocol import LatentSet
from lps_tf.sets.search import Look, Parameters, State, initial

# The values of Croce and Hein (2020b): overshoot, step back, and largest bias to zero.
_OVERSHOOT, _BACK, _BIAS = 1.05, 0.9, 0.1
# Nothing else bounds the latents of this attack, and a small gradient leads far.
_FARTHEST = 10.0


def _to_boundary(state: State, look: Look, parameters: Parameters) -> State:
    u, wrong, norm = state["u"], look.misclassified, latent.norm(state["u"])
    closer = wrong & (norm < state["nearest_norm"])
    new = {
        "nearest": latent.where(closer, u, state["nearest"]),
        "nearest_norm": tf.where(closer, norm, state["nearest_norm"]),
        "nearest_loss": tf.where(closer, look.loss, state["nearest_loss"]),
    }

    # The boundary is where value + slope * direction . (point - u) is 0. Signed
    # distances to it along `direction`, each (batch,), from u and from zero.
    direction = latent.unit(look.gradient)
    slope = tf.reduce_sum(look.gradient * direction, 1)
    from_u = -tf.math.divide_no_nan(look.value, slope)
    from_zero = from_u + tf.reduce_sum(direction * u, 1)
    both = tf.abs(from_u) + tf.abs(from_zero)
    bias = tf.minimum(tf.math.divide_no_nan(tf.abs(from_u), both), _BIAS)[:, None]
    near_u = u + _OVERSHOOT * from_u[:, None] * direction
    near_zero = _OVERSHOOT * from_zero[:, None] * direction
    ahead = (1 - bias) * near_u + bias * near_zero
    # From behind the boundary it goes back towards zero, and looks again there.
    moved = latent.where(wrong, _BACK * u, ahead)
    new["u"] = latent.project(moved, _FARTHEST * parameters["limit"])

    # Of the rest of the ball it tells where it began.
    inside, first = new["nearest_norm"] <= parameters["radius"], state["step"] == 0
    new["misclassified"] = inside
    begun = tf.where(first, look.loss, state["loss"])
    new["loss"] = tf.where(inside, new["nearest_loss"], begun)
    new["worst"] = latent.where(inside, new["nearest"], state["worst"])
    return new


class LatentFAB(LatentAttack):
    """The fast adaptive boundary attack in latent space (Croce and Hein 2020b).

    It looks for the misclassified latent of least norm: steps from boundary to
    boundary of the linearised classifier, drawn to u = 0, the image itself. It aims at
    one wrong class after the other, the likeliest first. Only the norm counts: unlike
    pixels, latents have no other bounds. Where the nearest one is inside of the ball,
    the image is misclassified; one search serves all radii.

    A look that finds the label lost takes a step of its own, to go back towards zero:
    the original's iteration is up to two steps of this one.

    Args:
        perturbation_set: Set to search; calibrated, unless `radius` is given.
        radius: Radius of the ball, default that of the set; it may be set later too.
        steps: Number of steps of a search.
        targets: Number of wrong classes to aim at; there may be fewer.
        restarts: Number of searches for each of them; the first one begins at zero and
            the others at random members.
        seed: Seed of the random starts.

    Raises:
        ValueError: If there is no radius, or a number is not positive.

    References:
        Croce and Hein (2020b), "Minimally distorted adversarial examples with a fast
        adaptive boundary attack", arXiv:1907.02044.
    """

    FIXED: ClassVar[tuple[str, ...]] = (*LatentAttack.FIXED, "targets")

    rule = staticmethod(_to_boundary)
    objective = staticmethod(towards_target(targeted_margin))
    names = ("FAB-T",)
    from_zero = True
    minimum_norm = True
    targets: int

    def __init__(
        self,
        perturbation_set: LatentSet,
        *,
        radius: float | None = None,
        steps: int = 100,
        targets: int = 9,
        restarts: int = 1,
        seed: int = 0,
    ):
        steps = checks.count("steps", steps)
        super().__init__(perturbation_set, radius, steps, restarts, seed)
        self.targets = checks.count("targets", targets)

    def begin(self, u: tf.Tensor, radius: tf.Tensor) -> State:
        """The state at the start, with the nearest misclassified latent: none yet."""
        return {
            **initial(u),
            "nearest": u,
            "nearest_norm": tf.fill(tf.shape(radius), float("inf")),
            "nearest_loss": tf.zeros_like(radius),
        }

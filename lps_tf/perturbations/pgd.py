"""Attacks: latents of the ball for which a classifier is wrong, or most wrong."""

from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf.perturbations.base import LatentAttack
from lps_tf.perturbations.losses import Loss, cross_entropy, difference_of_logits_ratio
from lps_tf.sets import latent
from lps_tf.sets.protocol import LatentSet
from lps_tf.sets.search import Look, Parameters, State, gradient_step, initial


class LatentPGD(LatentAttack):
    """Projected gradient ascent on the loss in the latent ball (paper, section 5).

    It starts in a uniform direction at a uniform fraction of the radius; each step
    follows the example's own normalised gradient and is projected on the ball.
    Misclassified examples stop moving; in segmentation, those with every pixel wrong.

    The paper trains with 7 steps of radius / 5, on the point that the last one
    reaches, and evaluates with 50 of radius / 20. To train several times faster, take
    one long step: `steps=1, relative_step=1.25` is the fast adversarial training of
    Wong, Rice and Kolter (2020), with its random start; `SmoothedPGD` starts it from
    noise, which holds better. To evaluate, `LatentAPGD` is stronger.

    Args:
        perturbation_set: Set to search; calibrated, unless `radius` is given.
        radius: Radius of the ball, default that of the set; it may be set later too.
        steps: Number of gradient steps.
        relative_step: Length of a step as a fraction of the radius.
        restarts: Number of searches of each example; the worst point counts.
        seed: Seed of the random starts.

    Raises:
        ValueError: If there is no radius, or a number is not positive.
    """

    FIXED: ClassVar[tuple[str, ...]] = (*LatentAttack.FIXED, "relative_step")

    rule = staticmethod(gradient_step)
    names = ("PGD",)

    def __init__(
        self,
        perturbation_set: LatentSet,
        *,
        radius: float | None = None,
        steps: int = 7,
        relative_step: float = 0.2,
        restarts: int = 1,
        seed: int = 0,
    ):
        steps = checks.count("steps", steps)
        super().__init__(perturbation_set, radius, steps, restarts, seed)
        self.relative_step = checks.positive("relative_step", relative_step)

    def parameters(self) -> Parameters:
        """The length of a step."""
        return {"relative_step": tf.constant(self.relative_step)}

    def chosen(self, state: State) -> tf.Tensor:
        """The last latents, as in the paper; of several restarts, the worst."""
        return state["u"] if self.restarts == 1 else state["worst"]


def _automatic(state: State, look: Look, parameters: Parameters) -> State:
    # Croce and Hein (2020), algorithm 1, each example at a step of its own.
    value, direction = look.value, latent.unit(look.gradient)
    new = {}
    higher = value > state["best"]
    new["best"] = tf.where(higher, value, state["best"])
    new["best_u"] = best_u = latent.where(higher, state["u"], state["best_u"])
    new["best_direction"] = latent.where(higher, direction, state["best_direction"])
    gains = state["gains"] + tf.cast(value > state["value"], tf.float32)
    new["value"] = value

    first = state["step"] == 0
    checkpoint = tf.gather(parameters["checkpoints"], state["step"])
    few = gains < 0.75 * tf.gather(parameters["gaps"], state["step"])
    same = state["length"] == state["last_length"]
    stuck = same & (new["best"] == state["last_best"])
    back = checkpoint & (few | stuck)
    length = tf.where(back, 0.5 * state["length"], state["length"])
    new["length"] = length
    new["last_length"] = tf.where(checkpoint, state["length"], state["last_length"])
    new["last_best"] = tf.where(checkpoint, new["best"], state["last_best"])
    new["gains"] = tf.where(checkpoint, 0.0, gains)

    u = latent.where(back, best_u, state["u"])
    direction = latent.where(back, new["best_direction"], direction)
    radius = parameters["radius"]
    ahead = latent.project(u + length[:, None] * direction, radius)
    weight = tf.where(first, 1.0, 0.75)[:, None]
    moved = u + weight * (ahead - u) + (1 - weight) * (u - state["before"])
    new["before"] = u
    new["u"] = latent.project(moved, radius)
    return new


class LatentAPGD(LatentAttack):
    """Auto-PGD in the latent ball: the attack to evaluate with (Croce and Hein 2020).

    The step starts at twice the radius and has momentum; at checkpoints, an example
    that made too little progress halves its step and goes back to its best point.
    There is nothing to tune. It searches once on the cross-entropy and once on the
    difference of logits ratio, from `restarts` starts each, and keeps the worst.

    Args:
        perturbation_set: Set to search; calibrated, unless `radius` is given.
        radius: Radius of the ball, default that of the set; it may be set later too.
        steps: Number of gradient steps of a search.
        restarts: Number of searches on each of the two losses.
        seed: Seed of the random starts.

    Raises:
        ValueError: If there is no radius, or a number is not positive.
    """

    rule = staticmethod(_automatic)
    losses: tuple[Loss, ...] = (cross_entropy, difference_of_logits_ratio)
    names: tuple[str, ...] = ("APGD-CE", "APGD-DLR")

    def __init__(
        self,
        perturbation_set: LatentSet,
        *,
        radius: float | None = None,
        steps: int = 50,
        restarts: int = 1,
        seed: int = 0,
    ):
        steps = checks.count("steps", steps)
        super().__init__(perturbation_set, radius, steps, restarts, seed)

    def parameters(self) -> Parameters:
        """Which steps are checkpoints, and how many steps after the last one."""
        # Searches that are over, whose rows go along, are at steps + 1.
        marks, gaps = np.zeros(self.steps + 2, bool), np.zeros(self.steps + 2)
        marks[0] = True
        for last, step in zip(*checkpoints(self.steps), strict=True):
            marks[step], gaps[step] = True, step - last
        return {
            "checkpoints": tf.constant(marks),
            "gaps": tf.constant(gaps, tf.float32),
        }

    def begin(self, u: tf.Tensor, radius: tf.Tensor) -> State:
        """The state at the start, with what the rule remembers."""
        low = tf.fill(tf.shape(radius), float("-inf"))
        return {
            **initial(u),
            "before": u,
            "best": low,
            "best_u": u,
            "best_direction": tf.zeros_like(u),
            "gains": tf.zeros_like(radius),
            "value": low,
            "length": 2 * radius,
            "last_length": 2 * radius,
            "last_best": low,
        }


def checkpoints(steps: int) -> tuple[list[int], list[int]]:
    """Where Auto-PGD looks back: each checkpoint's predecessor, and the checkpoint.

    At 22% of the steps, then after gaps that shrink by 3% of the steps to 6%.
    """
    fractions = [0.0, 0.22]
    while fractions[-1] < 1:
        gap = max(fractions[-1] - fractions[-2] - 0.03, 0.06)
        fractions.append(fractions[-1] + gap)
    marks = [int(np.ceil(f * steps - 1e-9)) for f in fractions]
    marks = sorted({mark for mark in marks if mark <= steps})
    return marks[:-1], marks[1:]


class RandomSearch(LatentAttack):
    """The worst of random latents: what any attack must at least find.

    Args:
        perturbation_set: Set to search; calibrated, unless `radius` is given.
        radius: Radius of the ball, default that of the set; it may be set later too.
        num_samples: Number of latents of each example, in uniform directions at a
            uniform fraction of the radius.
        seed: Seed of the latents.

    Raises:
        ValueError: If there is no radius, or a number is not positive.
    """

    names = ("random search",)

    def __init__(
        self,
        perturbation_set: LatentSet,
        *,
        radius: float | None = None,
        num_samples: int = 50,
        seed: int = 0,
    ):
        restarts = checks.count("num_samples", num_samples)
        super().__init__(perturbation_set, radius, 0, restarts, seed)

    def _facts(self) -> dict[str, Any]:
        facts = {"radius": self.radius, "num_samples": self.restarts}
        return {**facts, "seed": self.seed}

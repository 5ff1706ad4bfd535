"""What evaluating an attack needs of it, and what it gives."""

from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from lps_tf.sets.protocol import LatentSet
from lps_tf.sets.search import AttackObjective, Parameters, State, UpdateRule

#: Type of the names of attacks in arrays.
NAME = "<U24"


class AttackResult(NamedTuple):
    """What became of each example at each radius.

    An image counts as a member of its own set: misclassified without any
    perturbation, it counts as misclassified at every radius, and its latents are 0.

    Attributes:
        loss: Cross-entropy at the worst latents found, float32 (radii, batch); of a
            segmenter, summed over labelled pixels.
        success: Whether it was misclassified, at every labelled pixel for a segmenter,
            bool (radii, batch).
        u: These latents, float32 (radii, batch, latent_dim). Where `success`, the
            first ones that were misclassified.
        found_by: Name of the attack that found them, str (radii, batch): "APGD-CE" for
            Auto-PGD on the cross-entropy, for instance; "clean" where no perturbation
            was needed.
    """

    loss: np.ndarray
    success: np.ndarray
    u: np.ndarray
    found_by: np.ndarray


class Searches(Protocol):
    """What an attack tells of its searches; `LatentAttack` is one."""

    @property
    def perturbation_set(self) -> LatentSet:
        """Set that is searched."""
        ...

    @property
    def rule(self) -> UpdateRule | None:
        """How latents move."""
        ...

    @property
    def objective(self) -> AttackObjective:
        """What they raise."""
        ...

    @property
    def steps(self) -> int:
        """Steps of a search."""
        ...

    @property
    def seed(self) -> int:
        """Seed of the starts."""
        ...

    @property
    def restarts(self) -> int:
        """Restarts of one example."""
        ...

    def searches_a_restart(self, num_classes: int, /) -> int:
        """Searches of one restart: one for each loss or target."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """What searches on each of the losses are called."""
        ...

    @property
    def targets(self) -> int | None:
        """Number of wrong classes that searches aim at in turns; None aims at none."""
        ...

    @property
    def uses_gradient(self) -> bool:
        """Whether the rule needs gradients."""
        ...

    @property
    def from_zero(self) -> bool:
        """Whether the first restart begins at u = 0."""
        ...

    @property
    def minimum_norm(self) -> bool:
        """Whether one search settles all radii."""
        ...

    def parameters(self) -> Parameters:
        """What the rule needs to know."""
        ...

    def begin(self, u: tf.Tensor, radius: tf.Tensor, /) -> State:
        """The state at starts."""
        ...

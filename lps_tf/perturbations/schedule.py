"""Attacks that grow while training goes on."""

import keras

from lps_tf._internal.describing import described
from lps_tf.perturbations.base import LatentAttack
from lps_tf.perturbations.sampling import LatentAugmentation
from lps_tf.training.schedules import PiecewiseLinear


class RadiusSchedule(keras.callbacks.Callback):
    """Sets the radius of an attack, or of an augmentation, at the start of each epoch.

    Small balls first, and the full one at the end: a classifier that meets the
    strongest attack at once may not learn at all.

    Example:
        attack = LatentPGD(pset)
        growing = RadiusSchedule(attack, PiecewiseLinear([0, 10], [0.5, pset.radius]))
        RobustClassifier(classifier, attack).fit(..., callbacks=[growing])

    Args:
        perturbation: Attack or augmentation, as a `RobustClassifier` has it.
        schedule: Radius at each epoch; all of its values are positive.

    Raises:
        ValueError: If a value is not positive.
    """

    def __init__(
        self, perturbation: LatentAttack | LatentAugmentation, schedule: PiecewiseLinear
    ):
        super().__init__()
        if min(schedule.values) <= 0:
            raise ValueError(
                "A radius must be positive at every epoch; `warmup_epochs` of a "
                "RobustClassifier begins without perturbation. "
                f"Received: values={schedule.values}"
            )
        self.perturbation, self.schedule = perturbation, schedule

    def __repr__(self) -> str:
        return described(self, self.perturbation, self.schedule)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Sets the epoch's radius."""
        self.perturbation.radius = self.schedule.at(epoch)

"""What to do to an image during training and evaluation.

A perturbation is called with a classifier, a batch x and its labels y, and returns the
perturbed batch; see `lps_tf.training.perturbation.Perturbation`. `RobustClassifier`
takes plain functions of that form as well. Those here move in the latent ball of a
perturbation set, which stays frozen: only gradients with respect to the latent are
computed. `AugMix` and `Prime`, the baselines, need no set. Random numbers come from a
`seed`, and in a call from the `key`; without one each counts its own.
"""

from lps_tf.perturbations.augmix import AugMix
from lps_tf.perturbations.auto_attack import LatentAutoAttack
from lps_tf.perturbations.groups import WorstOfGroup
from lps_tf.perturbations.pgd import LatentAPGD, LatentPGD, RandomSearch
from lps_tf.perturbations.prime import Prime
from lps_tf.perturbations.protocol import AttackResult
from lps_tf.perturbations.sampling import LatentAugmentation, LatentNoise
from lps_tf.perturbations.schedule import RadiusSchedule
from lps_tf.perturbations.smooth_adv import SmoothedPGD

__all__ = [
    "AttackResult",
    "AugMix",
    "LatentAPGD",
    "LatentAugmentation",
    "LatentAutoAttack",
    "LatentNoise",
    "LatentPGD",
    "Prime",
    "RadiusSchedule",
    "RandomSearch",
    "SmoothedPGD",
    "WorstOfGroup",
]

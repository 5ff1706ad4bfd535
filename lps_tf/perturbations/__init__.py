"""What to do to an image during training and evaluation.

A perturbation is called with a classifier (images to logits), a batch x and its
labels y, and returns the perturbed batch; `RobustClassifier` takes any callable of
that form. Those here move in the latent ball of a perturbation set, which stays
frozen: only gradients with respect to the latent are computed. They also take a
`seed`, two int32, for the draws of the call; without one they count their own.

A class attribute `adversarial` says how to train on the result: True, on the worse
of the clean and the perturbed loss; False, on the perturbed loss alone.
"""

from lps_tf.perturbations.groups import WorstOfGroup
from lps_tf.perturbations.pgd import LatentAPGD, LatentPGD, RandomSearch
from lps_tf.perturbations.sampling import LatentAugmentation, LatentNoise
from lps_tf.perturbations.scheduler import AttackResult
from lps_tf.perturbations.smooth_adv import SmoothedPGD

__all__ = [
    "AttackResult",
    "LatentAPGD",
    "LatentAugmentation",
    "LatentNoise",
    "LatentPGD",
    "RandomSearch",
    "SmoothedPGD",
    "WorstOfGroup",
]

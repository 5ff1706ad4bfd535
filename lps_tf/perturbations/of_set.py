"""What perturbations of a learned set share: the set, the seed, and their keys."""

from copy import deepcopy
from typing import Any, ClassVar

from lps_tf._internal.fixed import Fixed
from lps_tf.sets import latent
from lps_tf.sets.protocol import LatentSet


class OfSet(Fixed):
    """A perturbation of a set, which stays frozen.

    A copy, deep or not, shares the set.

    Args:
        perturbation_set: Set that is searched or sampled.
        seed: Seed of the calls that are given no key.
    """

    FIXED: ClassVar[tuple[str, ...]] = ("perturbation_set", "seed")

    adversarial = False
    num_samples = 1

    def __init__(self, perturbation_set: LatentSet, seed: int):
        self.perturbation_set = perturbation_set
        self.seed = seed
        self._keys = latent.Keys(seed)

    def __deepcopy__(self, memo: dict[int, Any]) -> "OfSet":
        copied = object.__new__(type(self))
        for name, value in self.__dict__.items():
            shared = name == "perturbation_set"
            copied.__dict__[name] = value if shared else deepcopy(value, memo)
        return copied

"""What perturbations of a set share: the set, the seed, and their keys."""

from copy import deepcopy
from typing import Any, ClassVar

import numpy as np

from lps_tf._internal import checks
from lps_tf._internal.describing import described
from lps_tf._internal.fixed import Adjustable, Fixed
from lps_tf.sets import latent
from lps_tf.sets.protocol import LatentSet, require_hashable


class AdjustableSigma(Adjustable):
    """A standard deviation of all latent dimensions of a set, or one of each."""

    def _checked(self, instance: "OfSet", value: Any) -> Any:
        size = instance.perturbation_set.latent_dim
        return checks.positive_or_each(self._name, value, size)

    def _for_graphs(self, instance: "OfSet", value: Any) -> Any:
        return np.broadcast_to(value, (instance.perturbation_set.latent_dim,))


class OfSet(Fixed):
    """A perturbation of a set, which stays frozen.

    A copy, deep or not, shares the set.

    Args:
        perturbation_set: Set that is searched or sampled.
        seed: Seed of the calls that are given no key.

    Raises:
        ValueError: If the set is not hashable.
    """

    FIXED: ClassVar[tuple[str, ...]] = ("perturbation_set", "seed")

    adversarial = False
    num_samples = 1

    def __init__(self, perturbation_set: LatentSet, seed: int):
        self.perturbation_set = require_hashable(perturbation_set)
        self.seed = seed
        self._keys = latent.Keys(seed)

    def _facts(self) -> dict[str, Any]:
        """What `repr` tells, beside the set."""
        fixed = {k: self.__dict__[k] for k in self.FIXED if k != "perturbation_set"}
        return {**Adjustable.values(self), **fixed}

    def __repr__(self) -> str:
        return described(self, self.perturbation_set, **self._facts())

    def __deepcopy__(self, memo: dict[int, Any]) -> "OfSet":
        copied = object.__new__(type(self))
        for name, value in self.__dict__.items():
            shared = name == "perturbation_set"
            copied.__dict__[name] = value if shared else deepcopy(value, memo)
        return copied

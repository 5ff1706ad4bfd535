"""Perturbation sets: how they are learned, calibrated, searched and measured.

Learned ones are `lps_tf.PerturbationSet`; those of known formula, such as rotations,
are in `lps_tf.sets.parametric`; `from_saved_model` reads one of which there is only a
SavedModel. All are used by `lps_tf.sets.protocol.LatentSet`.
"""

from lps_tf.sets import parametric
from lps_tf.sets.saved import from_saved_model

__all__ = ["from_saved_model", "parametric"]

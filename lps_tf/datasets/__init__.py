"""Sources of pairs (x, x_perturbed) and of labelled images, as tf.data pipelines."""

from lps_tf.datasets.base import PairData
from lps_tf.datasets.digits import digits_linf, digits_rts

__all__ = ["PairData", "digits_linf", "digits_rts"]

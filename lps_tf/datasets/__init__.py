"""Sources of pairs (x, x_perturbed) and of labelled images, as tf.data pipelines."""

from lps_tf.datasets.base import PairData
from lps_tf.datasets.digits import digits_linf, digits_rts
from lps_tf.datasets.folders import paired_folders
from lps_tf.datasets.lighting import multi_illumination, scenes
from lps_tf.datasets.mnist import mnist_linf, mnist_rts
from lps_tf.datasets.photographs import cifar10_corrupted, cifar10_published, photos
from lps_tf.datasets.pipelines import pairing

__all__ = [
    "PairData",
    "cifar10_corrupted",
    "cifar10_published",
    "digits_linf",
    "digits_rts",
    "mnist_linf",
    "mnist_rts",
    "multi_illumination",
    "paired_folders",
    "pairing",
    "photos",
    "scenes",
]

"""Sources of pairs (x, x_perturbed) and of labelled images, as tf.data pipelines."""

from lps_tf.datasets.base import PairData
from lps_tf.datasets.cifar10 import cifar10_corrupted, cifar10_published
from lps_tf.datasets.corrupted_folder import corrupted_folder
from lps_tf.datasets.fashion import fashion_corrupted, fashion_linf, fashion_rts
from lps_tf.datasets.folders import paired_folders
from lps_tf.datasets.mnist import mnist_linf, mnist_rts
from lps_tf.datasets.mnist5k import mnist5k_linf, mnist5k_rts
from lps_tf.datasets.multi_illumination import multi_illumination
from lps_tf.datasets.photos import photos
from lps_tf.datasets.pipelines import pairing
from lps_tf.datasets.scenes import scenes

__all__ = [
    "PairData",
    "cifar10_corrupted",
    "cifar10_published",
    "corrupted_folder",
    "fashion_corrupted",
    "fashion_linf",
    "fashion_rts",
    "mnist5k_linf",
    "mnist5k_rts",
    "mnist_linf",
    "mnist_rts",
    "multi_illumination",
    "paired_folders",
    "pairing",
    "photos",
    "scenes",
]

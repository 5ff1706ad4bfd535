"""Noise: Gaussian, shot, impulse and speckle.

As in the other files of corruptions, a function takes float32 images in [0, 1]
(n, height, width, channels), its setting at one severity and the images' streams of
random numbers; it leaves the images as they are and returns new ones, which the
caller clips to [0, 1].
"""

import numpy as np

from lps_tf.corruptions.streams import Streams


def gaussian_noise(x: np.ndarray, std: float, streams: Streams) -> np.ndarray:
    """Adds normal noise to each value."""
    noise = streams.normal(*x.shape[1:])
    noise *= std
    noise += x
    return noise


def shot_noise(x: np.ndarray, photons: float, streams: Streams) -> np.ndarray:
    """Counts photons, of which full brightness sends `photons` on average."""
    counts = streams.poisson(x * photons)
    counts /= photons
    return counts


def impulse_noise(x: np.ndarray, amount: float, streams: Streams) -> np.ndarray:
    """Replaces a fraction of the values by 0 or 1 (salt and pepper)."""
    u = streams.uniform(*x.shape[1:])
    result = np.where(u < amount, np.float32(1), x)
    result[u < amount / 2] = 0
    return result


def speckle_noise(x: np.ndarray, std: float, streams: Streams) -> np.ndarray:
    """Adds normal noise in proportion to the value."""
    noise = streams.normal(*x.shape[1:])
    noise *= std
    noise += 1
    noise *= x
    return noise

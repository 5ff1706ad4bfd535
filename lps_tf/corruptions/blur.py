"""Blurs: Gaussian, defocus, glass, motion and zoom (signatures: see `noise`)."""

import numpy as np
from scipy import ndimage

from lps_tf.corruptions import pixels
from lps_tf.corruptions.parameters import Defocus, Glass, Streak
from lps_tf.corruptions.streams import Streams


def gaussian_blur(x: np.ndarray, sigma: float, streams: Streams) -> np.ndarray:
    """Blurs by a Gaussian; outside, the border goes on."""
    return ndimage.gaussian_filter(x, sigma, mode="nearest", axes=(1, 2))


def defocus_blur(x: np.ndarray, c: Defocus, streams: Streams) -> np.ndarray:
    """Blurs by a disk, the image of a point out of focus."""
    kernel = disk(c)
    reach = len(kernel) // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), "reflect")
    rows, columns = np.nonzero(kernel)
    weights = kernel[rows, columns]
    return pixels.weighted_shifts(padded, weights, rows, columns, *x.shape[1:3])


def disk(c: Defocus) -> np.ndarray:
    """The kernel of `defocus_blur`, odd and square; it sums to 1."""
    reach = int(c.radius) + 1
    offset = np.arange(-reach, reach + 1)
    inside = offset[:, None] ** 2 + offset**2 <= c.radius**2
    soft = np.exp(-np.array([1, 0, 1]) / (2 * c.alias_sigma**2))
    kernel = inside.astype(np.float32)
    for axis in (0, 1):
        kernel = ndimage.correlate1d(kernel, soft, axis, mode="constant")
    kernel[kernel < pixels.NEGLIGIBLE * kernel.sum()] = 0
    return kernel / kernel.sum()


def glass_blur(x: np.ndarray, c: Glass, streams: Streams) -> np.ndarray:
    """Each pixel takes the place of a neighbour, as behind frosted glass.

    In scan order from the lower right, a pixel becomes a copy of itself or of the
    one above, to the left or above to the left. The original means to swap the two,
    but copies; as it reads only what it has not yet written, all pixels can move at
    once. Only the first two rows and columns stay.
    """
    n, height, width, channels = x.shape
    x = gaussian_blur(x, c.sigma, streams)
    back = streams.uniform(c.iterations, 2, height - 2, width - 2) < 0.5
    here = np.arange(height * width)
    source = np.broadcast_to(here, (n, height * width))
    for up, left in back.transpose(1, 2, 0, 3, 4):
        step = np.zeros((n, height, width), np.int64)
        step[:, 2:, 2:] = up * width + left
        source = np.take_along_axis(source, here - step.reshape(n, -1), 1)
    source += np.arange(n)[:, None] * (height * width)
    moved = x.reshape(-1, channels).take(source, axis=0).reshape(x.shape)
    return gaussian_blur(moved, c.sigma, streams)


def motion_blur(x: np.ndarray, c: Streak, streams: Streams) -> np.ndarray:
    """Blurs along a direction within 45 degrees of the horizontal."""
    return streaks(x, c, 90 * streams.uniform() - 45)


def streaks(x: np.ndarray, c: Streak, degrees: np.ndarray) -> np.ndarray:
    """Each pixel mixed with those in one direction; outside, the border goes on.

    Args:
        x: Images, (n, height, width, channels).
        c: Length and softness.
        degrees: Direction for each image, (n,), clockwise from the right.
    """
    height, width = x.shape[1:3]
    steps = np.arange(2 * c.radius + 1)
    weights = np.exp(-(steps**2) / (2 * c.sigma**2))
    weights = weights[weights > pixels.NEGLIGIBLE * weights.sum()]
    weights = (weights / weights.sum()).astype(np.float32)
    steps = steps[: len(weights)]
    reach = len(weights) - 1
    angle = np.deg2rad(degrees.astype(np.float64))[:, None]
    # Half a pixel rounds towards minus infinity, as in ImageMagick.
    rows = np.ceil(steps * np.sin(angle) - 0.5).astype(int) + reach
    columns = np.ceil(steps * np.cos(angle) - 0.5).astype(int) + reach
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), "edge")
    result = np.empty_like(x)
    for place, image, down, right in zip(result, padded, rows, columns, strict=True):
        place[...] = pixels.weighted_shifts(image, weights, down, right, height, width)
    return result


def zoom_blur(x: np.ndarray, stop: float, streams: Streams) -> np.ndarray:
    """The mean of the image enlarged more and more, as in zooming in."""
    height, width = x.shape[1:3]
    factors = np.arange(1, stop, 0.01)
    total = pixels.separable(
        [
            (pixels.zoom_axis(height, factor), pixels.zoom_axis(width, factor))
            for factor in factors.tolist()
        ],
        x,
    )
    total += x  # the image itself counts once more
    total /= len(factors) + 1
    return total

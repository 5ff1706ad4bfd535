"""Drops of water or splashes of mud on the lens (signature: see `noise`)."""

import numpy as np
from scipy import ndimage

from lps_tf.corruptions import pixels
from lps_tf.corruptions.parameters import Spatter
from lps_tf.corruptions.streams import Streams

_WATER = np.array([175, 238, 238], np.float32) / 255  # pale turquoise
_MUD = np.array([63, 42, 20], np.float32) / 255
# Thresholds of the edge detector, for the sum of both gradients of 8-bit drops.
_WEAK, _STRONG = 50, 150
_FAR = 20


def spatter(x: np.ndarray, c: Spatter, streams: Streams) -> np.ndarray:
    """Drops where blurred noise exceeds a threshold; of water or of mud.

    Grey images take the brightness of the drops' colour.
    """
    height, width, channels = x.shape[1:]
    drops = c.mean + c.std * streams.normal(height, width)
    drops = ndimage.gaussian_filter(drops, c.blur, mode="nearest", axes=(1, 2))
    colour = _MUD if c.mud else _WATER
    if channels == 1:
        colour = pixels.grey(colour)
    if c.mud:
        cover = (drops > c.threshold).astype(np.float32)
        cover = ndimage.gaussian_filter(cover, c.mix, mode="nearest", axes=(1, 2))
        cover[cover < 0.8] = 0
        cover = cover[..., None]
        return x * (1 - cover) + cover * colour
    drops[drops < c.threshold] = 0
    drops = np.clip(255 * drops, 0, 255).astype(np.uint8)
    shine = drops * relief(find_edges(drops))
    thickest = shine.max((1, 2), keepdims=True)
    shine *= c.mix / np.where(thickest == 0, 1, thickest)
    return x + shine[..., None] * colour


def relief(edges: np.ndarray) -> np.ndarray:
    """Drops lit from one side, (n, h, w), from the distance to their edges."""
    n, height, width = edges.shape
    distance = _mean3(distances(edges)).astype(np.int64)
    # Equalise: each image's grey levels are spread over 0 to 255 by their ranks.
    levels = _FAR + 1
    image = np.arange(n).reshape(-1, 1, 1) * levels
    counts = np.bincount((image + distance).ravel(), minlength=n * levels)
    counts = counts.reshape(n, levels).cumsum(1)
    lowest = np.take_along_axis(counts, distance.min((1, 2))[:, None], 1)
    others = height * width - lowest
    table = np.rint((counts - lowest) * 255 / np.where(others == 0, 1, others))
    table = np.where(others == 0, np.arange(levels), table)
    equalised = table.ravel()[image + distance].astype(np.float32)
    e = np.pad(equalised, ((0, 0), (1, 1), (1, 1)), "reflect")
    slope = (
        2 * (e[:, 2:, 2:] - e[:, :-2, :-2])
        + e[:, 1:-1, 2:]
        + e[:, 2:, 1:-1]
        + e[:, 1:-1, 1:-1]
        - e[:, 1:-1, :-2]
        - e[:, :-2, 1:-1]
    )
    return np.rint(_mean3(np.clip(slope, 0, 255)))


def _mean3(x: np.ndarray) -> np.ndarray:
    return ndimage.uniform_filter(x, 3, mode="mirror", axes=(1, 2))


def distances(edges: np.ndarray) -> np.ndarray:
    """To the nearest edge, at most _FAR pixels, (n, h, w) float32."""
    # Images lie so far apart that only edges of the same one count, and behind the
    # last, for batches without edges, there is nothing but edges.
    elsewhere = np.pad(~edges, ((0, 1), (0, 0), (0, 0)))
    distance = ndimage.distance_transform_edt(elsewhere, sampling=(_FAR, 1, 1))[:-1]
    return np.minimum(distance, _FAR).astype(np.float32)


def find_edges(drops: np.ndarray) -> np.ndarray:
    """Edges by J. Canny's method of 8-bit images, (n, h, w) bool."""
    d = np.pad(drops.astype(np.int16), ((0, 0), (1, 1), (1, 1)), "edge")
    vertical = d[:, :-2] + 2 * d[:, 1:-1] + d[:, 2:]
    dx = vertical[:, :, 2:] - vertical[:, :, :-2]
    horizontal = d[:, :, :-2] + 2 * d[:, :, 1:-1] + d[:, :, 2:]
    dy = horizontal[:, 2:] - horizontal[:, :-2]
    size_x, size_y = np.abs(dx), np.abs(dy)
    size = size_x + size_y
    # Keep what is largest across the edge, in the nearest of four directions.
    tangent = np.float32(np.sqrt(2) - 1)
    across = size_y < tangent * size_x
    along = size_x < tangent * size_y
    falling = (dx < 0) != (dy < 0)
    s = np.pad(size, ((0, 0), (1, 1), (1, 1)))
    previous = np.select(
        [across, along, falling],
        [s[:, 1:-1, :-2], s[:, :-2, 1:-1], s[:, :-2, 2:]],
        s[:, :-2, :-2],
    )
    following = np.select(
        [across, along, falling],
        [s[:, 1:-1, 2:], s[:, 2:, 1:-1], s[:, 2:, :-2]],
        s[:, 2:, 2:],
    )
    # Of two equal diagonal neighbours neither is kept, otherwise the first.
    diagonal = ~(across | along)
    ridge = (size > previous) & (size + ~diagonal > following) & (size > _WEAK)
    # A weak edge counts if a strong one continues it.
    neighbours = np.zeros((3, 3, 3))
    neighbours[1] = 1
    labels, number = ndimage.label(ridge, neighbours)
    strong = np.zeros(number + 1, bool)
    strong[labels[ridge & (size > _STRONG)]] = True
    return strong[labels]

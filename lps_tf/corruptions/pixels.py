"""Arithmetic on batches of images that several corruptions share."""

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from scipy import sparse

Border = Literal["reflect", "symmetric"]
#: Weights of a blur below it, a fortieth of a grey level, are left out.
NEGLIGIBLE = 1e-4
# Rows worked on at once: those of a large image stay in a processor's cache.
_STRIP = 64


def grey(x: np.ndarray) -> np.ndarray:
    """The brightness (..., 1) of colours (..., 3); what is grey already stays."""
    if x.shape[-1] == 1:
        return x
    red, green, blue = np.moveaxis(x, -1, 0)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[..., None]  # ITU-R BT.601


def brightest(x: np.ndarray) -> np.ndarray:
    """The largest channel, (..., 1); faster than a maximum along so short an axis."""
    return functools.reduce(np.maximum, np.moveaxis(x, -1, 0))[..., None]


def weighted_shifts(
    padded: np.ndarray,
    weights: Iterable[float],
    rows: Iterable[int],
    columns: Iterable[int],
    height: int,
    width: int,
) -> np.ndarray:
    """Sum of weight * padded[row : row + height, column : column + width].

    Args:
        padded: (..., height + margin, width + margin, channels).
        weights: One for each shift.
        rows: First row of each shift.
        columns: First column of each shift.
        height: Rows of the result.
        width: Columns of the result.

    Returns:
        (..., height, width, channels).
    """
    (first, *others), shifts = weights, zip(rows, columns, strict=True)
    parts = (padded[..., i : i + height, j : j + width, :] for i, j in shifts)
    total = next(parts) * first
    # One array takes every product: to allocate one a shift would take longer.
    scaled = np.empty(total.shape, padded.dtype)
    for weight, part in zip(others, parts, strict=True):
        total += np.multiply(part, weight, out=scaled)
    return total


def separable(
    maps: Sequence[tuple[sparse.csr_array, sparse.csr_array]], x: np.ndarray
) -> np.ndarray:
    """Returns the sum of maps of the pixels that act on rows and columns apart.

    Args:
        maps: Pairs of matrices (height, height) and (width, width), which map all
            columns, then all rows, of each channel of each image.
        x: Images (n, height, width, channels).
    """
    n, height, width, channels = x.shape
    # Images stand beside their channels: rows of the products below are long.
    x = x.transpose(1, 2, 0, 3).reshape(height, -1)  # (height, width * n * channels)
    result = np.empty((height, width, n, channels), np.float32)
    for top in range(0, height, _STRIP):
        strip = slice(top, min(top + _STRIP, height))
        total = np.float32(0)
        for rows, columns in maps:
            mapped = (rows[strip] @ x).reshape(-1, width, n * channels)
            # (width, strip * n * channels)
            mapped = columns @ mapped.transpose(1, 0, 2).reshape(width, -1)
            total = np.add(total, mapped, out=mapped)
        total = total.reshape(width, -1, n, channels)
        result[strip] = total.transpose(1, 0, 2, 3)
    return np.ascontiguousarray(result.transpose(2, 0, 1, 3))


@functools.lru_cache(maxsize=256)
def zoom_axis(side: int, factor: float) -> sparse.csr_array:
    """Returns the matrix (side, side) that enlarges a line of pixels about its centre.

    The middle 1 / factor of the line is interpolated linearly, its first and last
    pixels staying the first and last, and what is too much is trimmed. So does
    `scipy.ndimage.zoom`, which is slow for the lines of large images.
    """
    kept = math.ceil(side / factor)
    enlarged = round(kept * factor)
    first = np.arange(side) + (enlarged - side) // 2
    place = (side - kept) // 2 + first * ((kept - 1) / max(enlarged - 1, 1))
    left = np.minimum(place.astype(int), side - 2)
    right_weight = place - left
    weights = np.stack([1 - right_weight, right_weight], 1).astype(np.float32)
    neighbours = np.stack([left, left + 1], 1)
    starts = np.arange(0, 2 * side + 1, 2)
    return sparse.csr_array((weights.ravel(), neighbours.ravel(), starts), (side, side))


def bilinear(
    x: np.ndarray, rows: np.ndarray, columns: np.ndarray, border: Border
) -> np.ndarray:
    """Images read between their pixels.

    Args:
        x: (n, height, width, channels).
        rows: Where to read, (n, height, width), 0 being the centre of the first row.
        columns: The same for the columns.
        border: Mode of `numpy.pad` by which the image goes on outside.
    """
    n, height, width, channels = x.shape
    top, bottom, down = _neighbours(rows, height, border)
    left, right, along = _neighbours(columns, width, border)
    top, bottom = top * width, bottom * width
    first = np.arange(n).reshape(-1, 1, 1) * (height * width)
    top += first
    bottom += first
    flat = x.reshape(-1, channels)

    def between(row: np.ndarray) -> np.ndarray:
        near, far = flat.take(row + left, axis=0), flat.take(row + right, axis=0)
        far -= near
        far *= along
        near += far
        return near

    upper, lower = between(top), between(bottom)
    lower -= upper
    lower *= down
    upper += lower
    return upper


def _neighbours(
    place: np.ndarray, side: int, border: Border
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two pixels around each place, and how far it is from the first of them."""
    below = np.floor(place)
    fraction = (place - below)[..., None]
    below = below.astype(np.int64)
    margin = int(max(0, -below.min(), below.max() + 2 - side))
    inside = np.pad(np.arange(side), margin, mode=border)
    below += margin
    return inside[below], inside[below + 1], fraction

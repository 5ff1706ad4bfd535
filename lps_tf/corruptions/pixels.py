"""Arithmetic on batches of images that several corruptions share."""

import functools
from collections.abc import Sequence

import numpy as np
from scipy import ndimage, sparse

#: Weights of a blur below it, a fortieth of a grey level, are left out.
NEGLIGIBLE = 1e-4


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
    weights: Sequence[float],
    rows: Sequence[int],
    columns: Sequence[int],
    height: int,
    width: int,
) -> np.ndarray:
    """Sum of weight * padded[row : row + height, column : column + width].

    Args:
        padded: (..., height + margin, width + margin, channels).
        weights: one for each shift.
        rows: first row of each shift.
        columns: first column of each shift.
        height: of the result.
        width: of the result.

    Returns:
        (..., height, width, channels).
    """
    total = scaled = None
    for weight, row, column in zip(weights, rows, columns, strict=True):
        part = padded[..., row : row + height, column : column + width, :]
        if total is None:
            total, scaled = part * weight, np.empty(part.shape, part.dtype)
        else:
            total += np.multiply(part, weight, out=scaled)
    return total


def linear(matrix: sparse.csr_array, x: np.ndarray) -> np.ndarray:
    """A linear map of the pixels, the same for each channel of each image.

    Args:
        matrix: (height * width, height * width), to the new pixels from the old.
        x: (n, height, width, channels).
    """
    n, height, width, channels = x.shape
    columns = x.reshape(n, -1, channels).transpose(1, 0, 2).reshape(height * width, -1)
    mapped = (matrix @ columns).reshape(-1, n, channels).transpose(1, 0, 2)
    return np.ascontiguousarray(mapped).reshape(x.shape)


def zoom(height: int, width: int, factor: float) -> sparse.csr_array:
    """The matrix that enlarges images about their centre, for `linear`.

    The middle 1 / factor of the image is interpolated linearly, its first and last
    pixels staying the first and last, and what is too much is trimmed.
    """
    return sparse.kron(*(_zoom_axis(side, factor) for side in (height, width)), "csr")


def _zoom_axis(side: int, factor: float) -> sparse.csr_array:
    kept = int(np.ceil(side / factor))
    first = (side - kept) // 2
    middle = np.eye(side, dtype=np.float32)[first : first + kept]
    enlarged = ndimage.zoom(middle, (factor, 1), order=1)
    first = (len(enlarged) - side) // 2
    return sparse.csr_array(enlarged[first : first + side])


def bilinear(
    x: np.ndarray, rows: np.ndarray, columns: np.ndarray, border: str
) -> np.ndarray:
    """Images read between their pixels.

    Args:
        x: (n, height, width, channels).
        rows: where to read, (n, height, width), 0 being the centre of the first row.
        columns: so for the columns.
        border: how the image goes on outside, a mode of `numpy.pad`.
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
    place: np.ndarray, side: int, border: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two pixels around each place, and how far it is from the first of them."""
    below = np.floor(place)
    fraction = (place - below)[..., None]
    below = below.astype(np.int64)
    margin = max(0, -below.min(), below.max() + 2 - side)
    inside = np.pad(np.arange(side), margin, mode=border)
    below += margin
    return inside[below], inside[below + 1], fraction

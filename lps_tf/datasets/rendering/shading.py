"""Light on a height field: 25 lamps, shading, highlights and cast shadows.

Arrays are indexed by row (y) and column (x); heights z grow towards the camera.
"""

import math
from collections.abc import Sequence

import numpy as np

# Azimuth (0 is right, 90 up) and elevation above the picture's plane, in degrees.
# Lights 2, 3, 19 to 22 and 24 stand close to the camera, as in the data set; few come
# from below, where a room has its floor.
_ANGLES = (
    *((-30, 30), (-6, 36), (0, 68), (60, 68), (18, 30)),
    *((42, 36), (66, 30), (90, 36), (114, 30), (138, 36)),
    *((162, 30), (186, 36), (210, 30), (0, 50), (51, 50)),
    *((103, 50), (154, 50), (206, 50), (257, 50), (120, 68)),
    *((180, 68), (240, 68), (300, 68), (309, 50), (90, 85)),
)
_AZIMUTH, _ELEVATION = np.deg2rad(_ANGLES).T
_FLAT = np.cos(_ELEVATION)
_XYZ = (_FLAT * np.cos(_AZIMUTH), -_FLAT * np.sin(_AZIMUTH), np.sin(_ELEVATION))

#: Unit vectors to the 25 lights, (25, 3).
LIGHTS = np.stack(_XYZ, -1).astype(np.float32)

# Some lamps are warmer than others. Low ones are stronger, which makes up for part of
# what they lose by shining along the picture's plane.
_WARMTH = np.cos(2.4 * np.arange(25))
_TINTS = np.stack([1 + 0.1 * _WARMTH, np.ones(25), 1 - 0.14 * _WARMTH], -1)
#: Colours of their lamps, (25, 3).
COLOURS = (_TINTS / np.sqrt(LIGHTS[:, 2:])).astype(np.float32)
_LAMP = np.deg2rad(2.5)  # half the height of a lamp, seen from the scene
#: A height below everything.
NOWHERE = np.float32(-1e3)


def normals(z: np.ndarray, spacing: float, owner: np.ndarray) -> np.ndarray:
    """Computes unit normals of a height field from central differences.

    Args:
        z: Heights (rows, columns).
        spacing: Distance of neighbouring rows and columns.
        owner: Which surface each pixel belongs to, (rows, columns). No difference is
            taken across surfaces: a body before a wall is not a slope of the wall.

    Returns:
        (3, rows, columns).
    """
    slopes = _slope(z.T, spacing, owner.T).T, _slope(z, spacing, owner)
    length = np.sqrt(slopes[0] ** 2 + slopes[1] ** 2 + 1)
    return np.stack([-slopes[0], -slopes[1], np.ones_like(z)]) / length


def _slope(z: np.ndarray, spacing: float, owner: np.ndarray) -> np.ndarray:
    """Differentiates from row to row: the mean of the differences to both sides."""
    # (rows - 1, columns): 1 where both rows belong to the same surface.
    same = (owner[1:] == owner[:-1]).astype(np.float32)
    step = np.diff(z, axis=0) * same / np.float32(spacing)
    before, after = ((1, 0), (0, 0)), ((0, 1), (0, 0))
    sides = np.pad(same, before) + np.pad(same, after)
    return (np.pad(step, before) + np.pad(step, after)) / np.maximum(sides, 1)


def lambert(normal: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Shades diffusely: the cosine between normal and light, at least 0.

    Args:
        normal: Unit vectors (3, rows, columns).
        light: Unit vector to the light, (3,).
    """
    x, y, z = (n * c for n, c in zip(normal, light, strict=True))
    return np.maximum(x + y + z, 0)


def highlight(
    normal: np.ndarray, light: np.ndarray, shininess: np.ndarray
) -> np.ndarray:
    """Computes Blinn's and Phong's highlight; 0 where the light is behind the surface.

    Args:
        normal: Unit vectors (3, rows, columns).
        light: Unit vector to the light, (3,).
        shininess: Exponent (rows, columns); the larger, the smaller the highlight.
    """
    half = light + np.array([0, 0, 1], np.float32)  # the camera is at (0, 0, inf)
    cosine = lambert(normal, half / np.sqrt((half**2).sum()))
    power = np.exp(shininess * np.log(np.maximum(cosine, 1e-6)))
    return power * (lambert(normal, light) > 0)


def visibility(
    z: np.ndarray, spacing: float, light: Sequence[float], half_width: float = _LAMP
) -> np.ndarray:
    """Casts shadows: the part of a lamp that each pixel of a height field sees.

    A pixel is in the shadow if a point ahead, on the line to the light, stands above
    it by more than tan(elevation) times the distance. With the field sheared so that
    these lines become columns, that is a running maximum, found for all pixels in one
    pass. The lamp is an upright bar, of which the horizon hides the lower part.
    Nothing stands outside the picture.

    Args:
        z: Heights (rows, columns), float32.
        spacing: Distance of neighbouring rows and columns.
        light: Unit vector to the middle of the lamp, (3,); all of the lamp is below
            the zenith.
        half_width: Half the lamp's height seen from the scene, in radians.

    Returns:
        (rows, columns), from 0 to 1.
    """
    across, along, up = (float(c) for c in light)
    if abs(across) > abs(along):
        return visibility(z.T, spacing, (along, across, up), half_width).T
    if along < 0:
        return visibility(z[::-1], spacing, (across, -along, up), half_width)[::-1]
    # The light now comes from the last row. The line that passes row 0 at column c
    # passes row i at column c + shift[i].
    rows, columns = z.shape
    shift = np.arange(rows)[:, None] * (across / along)
    whole = np.floor(shift).astype(np.int64)
    part = (shift - whole).astype(np.float32)
    lines = np.arange(-whole.max() - 1, columns - whole.min() + 1)
    # (rows, lines): the column, of the padded field, in which a line passes a row.
    column = lines + whole + 1
    outside = (column < 0) | (column > columns)
    # One more column on each side carries on with the slope at the border.
    z = np.pad(z, ((0, 0), (1, 1)), mode="reflect", reflect_type="odd")
    z = _lerp(np.take_along_axis(z, column.clip(0, columns + 1), 1), part)
    z[outside[:, :-1]] = NOWHERE

    elevation = math.atan2(up, math.hypot(across, along))
    low, high = (math.tan(elevation + sign * half_width) for sign in (-1, 1))
    horizon = _horizon(z, spacing * math.hypot(across / along, 1), (low, high))
    seen = ((high - horizon) / (high - low)).clip(0, 1)
    # Back from lines to columns, between the two lines that pass beside a pixel.
    line = np.arange(columns + 1) - whole - 1 - lines[0]
    return _lerp(np.take_along_axis(seen, line, 1), 1 - part)


def _lerp(z: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Interpolates between each column and the next."""
    return z[:, :-1] + part * (z[:, 1:] - z[:, :-1])


def _horizon(z: np.ndarray, step: float, slopes: tuple[float, float]) -> np.ndarray:
    """Finds the slope of the line of sight to the horizon in the rows ahead.

    For each of the two slopes, it finds the point that stands out most over a line of
    that slope; the steeper line to one of these two is the answer. So it is exact
    about whether the horizon is above a given slope; in between the two, the true
    horizon may be a little higher.
    """
    row = np.arange(len(z), dtype=np.float32)[:, None, None]
    along = np.array(slopes, np.float32)[:, None]
    rise = row * (np.float32(step) * along)
    # (rows, 2 slopes, lines): how far the best point ahead stands out, and its row.
    highest = np.full((len(z), 2, z.shape[1]), NOWHERE)
    highest[:-1] = z[1:, None] - rise[1:]
    at = np.broadcast_to(row + 1, highest.shape).copy()
    for i in range(len(z) - 2, -1, -1):
        farther = highest[i + 1] > highest[i]
        np.copyto(highest[i], highest[i + 1], where=farther)
        np.copyto(at[i], at[i + 1], where=farther)
    over = highest + rise - z[:, None]
    return (over / (np.float32(step) * (at - row)) + along).max(1)

"""Frost on the window (signature: see `noise`).

The original lays crops of photographs of frost over its images. None come with this
package: here the frost is drawn, so that these images are not those of CIFAR-10-C.
"""

import functools
import math

import numpy as np
from PIL import Image

from lps_tf.corruptions import pixels
from lps_tf.corruptions.parameters import Frost
from lps_tf.corruptions.streams import Streams
from lps_tf.corruptions.weather import plasma

# From the glass behind to the ice.
_DARK = np.array([0.10, 0.16, 0.24], np.float32)
_WHITE = np.array([0.90, 0.96, 1.00], np.float32)
_TILES = 8  # the sheet of frost is as high and as wide as so many images
_FEATHERS = 14  # per image
# Pixels of the shorter side at which frost is drawn. Larger images enlarge it: it grows
# with them, and its finest barbs are 6 pixels apart already.
_FINEST = 64


def frost(x: np.ndarray, c: Frost, streams: Streams) -> np.ndarray:
    """Lays frost over the image: a random part, maybe mirrored, of a drawn sheet."""
    n, height, width, channels = x.shape
    scale = max(min(height, width) / _FINEST, 1)
    part_size = np.array([math.ceil(height / scale), math.ceil(width / scale)])
    ice = sheet(*part_size.tolist())
    draws = streams.uniform(2, 2)
    starts = (draws[:, 0] * (ice.shape[:2] - part_size + 1)).astype(int)
    layer = np.empty((n, height, width, channels), np.float32)
    for place, (top, left), (down, right) in zip(
        layer, starts, draws[:, 1] < 0.5, strict=True
    ):
        rows, columns = part_size
        part = ice[top : top + rows, left : left + columns]
        part = part[:: 1 if down else -1, :: 1 if right else -1]
        part = pixels.grey(part) if channels == 1 else part
        place[...] = part if scale == 1 else _enlarged(part, height, width, scale)
    return c.image * x + c.layer * layer


def _enlarged(part: np.ndarray, height: int, width: int, scale: float) -> np.ndarray:
    # Rows and columns of the part are rounded up; the box leaves out what is too much.
    box = (0, 0, width / scale, height / scale)
    planes = [Image.fromarray(np.ascontiguousarray(p)) for p in np.moveaxis(part, 2, 0)]
    resized = [p.resize((width, height), Image.Resampling.BICUBIC, box) for p in planes]
    return np.stack([np.asarray(p) for p in resized], -1)  # (height, width, channels)


@functools.lru_cache(maxsize=8)
def sheet(height: int, width: int) -> np.ndarray:
    """Frost for images of one size, always the same, _TILES times as large, in colour.

    Feathers of ice, each a stem with barbs at its sides, lie over one another on
    glass of uneven brightness. They grow with the shorter side of the image.
    """
    random = np.random.RandomState(0)
    scale = max(min(height, width) / 32, 1)  # finer barbs than this would not show
    size = 1 << (max(height, width) - 1).bit_length()
    glass = plasma(random.uniform(-1, 1, (1, size * size - 1)), 1.8)[0]
    rows, columns = _TILES * height, _TILES * width
    glass = np.tile(glass, (-(-rows // size), -(-columns // size)))[:rows, :columns]
    ice = np.zeros((rows, columns), np.float32)
    for _ in range(int(_FEATHERS * rows * columns / (32 * scale) ** 2)):
        row, column = random.uniform(size=2) * ice.shape
        length = scale * random.uniform(8, 26)
        reach = 0.7 * length
        window = tuple(
            slice(max(0, int(middle - reach)), min(side, int(middle + reach) + 1))
            for middle, side in ((row, rows), (column, columns))
        )
        y, x = np.ogrid[window]
        drawn = feather(y - row, x - column, length, scale, random)
        np.maximum(ice[window], drawn, out=ice[window])
    ice = np.clip(0.35 * glass + 0.75 * ice, 0, 1)[..., None]
    return _DARK + ice * (_WHITE - _DARK)


def feather(
    y: np.ndarray,
    x: np.ndarray,
    length: float,
    scale: float,
    random: np.random.RandomState,
) -> np.ndarray:
    """The brightness of one feather of ice in a random direction.

    Args:
        y: Rows from its middle, (rows, 1).
        x: Columns from its middle, (1, columns).
        length: Length of the stem, in pixels.
        scale: Scale of the barbs: 3.2 times as many pixels from one to the next.
        random: Source of its direction, bend and strength.

    Returns:
        (rows, columns), in [0, 1].
    """
    angle, bend, strength = random.uniform((0, -1, 0.5), (2 * np.pi, 1, 1))
    along = (x * np.cos(angle) + y * np.sin(angle)) / length + 0.5  # 0 root, 1 tip
    arc = length * along * (1 - along)
    aside = np.abs(y * np.cos(angle) - x * np.sin(angle) + bend * arc)
    # The outline is widest in the middle; the barbs slant towards the tip.
    outline = np.maximum(1.8 * arc, 1e-6)
    inside = np.clip(1 - aside / outline, 0, 1)
    phase = (along * length - 0.6 * aside) / (3.2 * scale)
    barbs = 0.5 + 0.5 * np.cos(2 * np.pi * phase)
    stem = np.exp(-((aside / (0.7 * scale)) ** 2))
    drawn = inside * (0.3 + 0.7 * np.maximum(0.8 * barbs, stem))
    return np.where((along > 0) & (along < 1), strength * drawn, 0)

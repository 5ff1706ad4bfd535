"""Weather: snow, frost, fog (signatures: see `noise`)."""

import numpy as np

from lps_tf.corruptions import pixels
from lps_tf.corruptions.blur import streaks
from lps_tf.corruptions.parameters import Fog, Snow
from lps_tf.corruptions.streams import Streams


def snow(x: np.ndarray, c: Snow, streams: Streams) -> np.ndarray:
    """Flakes falling within 45 degrees of the vertical, before a whitened scene."""
    height, width = x.shape[1:3]
    flakes = c.mean + c.std * streams.normal(height, width, 1)
    if c.zoom > 1:
        axes = (pixels.zoom_axis(side, c.zoom) for side in (height, width))
        flakes = pixels.separable([tuple(axes)], flakes)
    flakes[flakes < c.threshold] = 0
    np.minimum(flakes, 1, out=flakes)
    flakes = streaks(flakes, c.streak, -135 + 90 * streams.uniform())
    whitened = np.maximum(x, 1.5 * pixels.grey(x) + 0.5)
    flakes = flakes + flakes[:, ::-1, ::-1]
    return c.mix * x + (1 - c.mix) * whitened + flakes


def fog(x: np.ndarray, c: Fog, streams: Streams) -> np.ndarray:
    """Fog of uneven density; nothing gets brighter than the image's brightest value."""
    height, width = x.shape[1:3]
    size = 1 << (max(height, width) - 1).bit_length()
    noise = 2 * streams.uniform(size * size - 1) - 1
    layer = plasma(noise, c.decay)[:, :height, :width, None]
    brightest = x.max((1, 2, 3), keepdims=True)
    return (x + c.strength * layer) * (brightest / (brightest + c.strength))


def plasma(noise: np.ndarray, decay: float) -> np.ndarray:
    """Clouds in [0, 1] by repeated midpoint displacement (diamond, then square).

    Args:
        noise: In [-1, 1], (n, size * size - 1), size a power of two.
        decay: Squared, what the displacement shrinks by from one scale to the next.

    Returns:
        (n, size, size), periodic; each has the minimum 0 and the maximum 1.
    """
    n = len(noise)
    size = int(np.sqrt(noise.shape[1] + 1))
    clouds = np.zeros((n, size, size), np.float32)
    amplitude, step, used = 1.0, size, 0
    while step > 1:
        half, cells = step // 2, size // step
        count = cells * cells
        shifts = noise[:, used : used + 3 * count] * amplitude
        centre, right, below = shifts.reshape(n, 3, cells, cells).transpose(1, 0, 2, 3)
        corner = clouds[:, ::step, ::step]
        along, down = corner + np.roll(corner, -1, 2), corner + np.roll(corner, -1, 1)
        centre += (along + np.roll(along, -1, 1)) / 4
        right += (along + centre + np.roll(centre, 1, 1)) / 4
        below += (down + centre + np.roll(centre, 1, 2)) / 4
        clouds[:, half::step, half::step] = centre
        clouds[:, ::step, half::step] = right
        clouds[:, half::step, ::step] = below
        used, step, amplitude = used + 3 * count, half, amplitude / decay**2
    clouds -= clouds.min((1, 2), keepdims=True)
    clouds /= clouds.max((1, 2), keepdims=True)
    return clouds

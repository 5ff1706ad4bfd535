"""Colours, shape and compression (signatures: see `noise`)."""

import functools
import io

import numpy as np
from PIL import Image
from scipy import fft, ndimage, sparse

from lps_tf.corruptions import pixels
from lps_tf.corruptions.parameters import Elastic, Saturate
from lps_tf.corruptions.streams import Streams

_LONG = 8.0  # sigma from which on a blur is quicker in the cosine basis


def brightness(x: np.ndarray, plus: float, streams: Streams) -> np.ndarray:
    """Adds to the value of HSV, the largest channel; hue and saturation stay."""
    value = pixels.brightest(x)
    brighter = np.minimum(value + plus, 1)
    black = value == 0
    result = x * (brighter / np.where(black, 1, value))
    return np.where(black, brighter, result)


def saturate(x: np.ndarray, c: Saturate, streams: Streams) -> np.ndarray:
    """Changes the saturation of HSV; hue and value stay.

    Grey pixels, which have no hue, count as red, as in any conversion to HSV. Grey
    images are taken as colour images with three equal channels, and turned to grey.
    """
    if x.shape[-1] == 1:
        return pixels.grey(saturate(np.repeat(x, 3, -1), c, streams))
    value = pixels.brightest(x)
    missing = value - x
    span = pixels.brightest(missing)
    old = span / np.where(value == 0, 1, value)
    new = np.clip(c.times * old + c.plus, 0, 1) * value
    hueless = span == 0
    missing *= new / np.where(hueless, 1, span)
    red = np.array([0, 1, 1], np.float32)
    return value - np.where(hueless, new * red, missing)


def contrast(x: np.ndarray, times: float, streams: Streams) -> np.ndarray:
    """Draws each channel towards its mean."""
    # In float64, so that the order of the sum, which may depend on the size of the
    # batch, does not show.
    mean = x.mean((1, 2), np.float64, keepdims=True).astype(np.float32)
    return (x - mean) * times + mean


def elastic_transform(x: np.ndarray, c: Elastic, streams: Streams) -> np.ndarray:
    """A random affine map, then smooth random shifts of the pixels.

    The affine map moves three corners of a square around the centre, whose half side
    is a third of the image's shorter side.
    """
    n, height, width = x.shape[:3]
    side = min(height, width)
    centre, half = np.array([height // 2, width // 2]), side // 3
    corners = centre + half * np.array([[1, 1], [-1, 1], [-1, -1]])
    moved = corners + c.affine * side * (2 * streams.uniform(3, 2) - 1)
    back = np.linalg.solve(
        np.concatenate([moved, np.ones((n, 3, 1))], 2),
        np.broadcast_to(corners, moved.shape),
    )
    # (2, n, 1, 1) each: how the source moves with the row, the column, and at all.
    down, right, shift = back.astype(np.float32).transpose(1, 2, 0)[..., None, None]
    grid = np.indices((height, width), np.float32)
    source = down * grid[0] + right * grid[1] + shift
    x = pixels.bilinear(x, source[0], source[1], "reflect")
    if c.alpha == 0:
        return x
    shifts = _smooth(2 * streams.uniform(2, height, width) - 1, c.sigma * side)
    source = grid + c.alpha * side * shifts
    return pixels.bilinear(x, source[:, 0], source[:, 1], "symmetric")


def _smooth(x: np.ndarray, sigma: float) -> np.ndarray:
    """Blurs (n, 2, height, width) by a Gaussian cut at 3 sigma; borders mirror."""
    if sigma < _LONG:
        return ndimage.gaussian_filter(
            x, sigma, mode="reflect", truncate=3, axes=(2, 3)
        )
    # In the cosine basis, whose waves mirror at the borders as well, the blur is a
    # product: its cost does not grow with sigma.
    offset = np.arange(int(3 * sigma + 0.5) + 1)
    kernel = np.exp(-((offset / sigma) ** 2) / 2) * np.where(offset, 2, 1)
    kernel /= kernel.sum()
    down, along = (  # the factor of each wave, (height,) and (width,)
        np.cos(np.pi / side * np.outer(np.arange(side), offset)) @ kernel
        for side in x.shape[2:]
    )
    factor = np.outer(down, along).astype(np.float32)
    result = np.empty_like(x)
    for place, image in zip(result, x, strict=True):  # bits as of an image alone
        waves = fft.dctn(image, axes=(1, 2))
        place[...] = fft.idctn(waves * factor, axes=(1, 2))
    return result


def pixelate(x: np.ndarray, scale: float, streams: Streams) -> np.ndarray:
    """Reduces the image and enlarges it again by Pillow's box filter."""
    axes = (_pixelate_axis(side, scale) for side in x.shape[1:3])
    return pixels.separable([tuple(axes)], x)


@functools.lru_cache(maxsize=32)
def _pixelate_axis(side: int, scale: float) -> sparse.csr_array:
    # Resizing the columns of the identity gives the weights of each pixel.
    image = Image.fromarray(np.eye(side, dtype=np.float32))
    for rows in (int(side * scale), side):
        image = image.resize((side, rows), Image.Resampling.BOX)
    return sparse.csr_array(np.asarray(image))


def jpeg_compression(x: np.ndarray, quality: int, streams: Streams) -> np.ndarray:
    """Through a JPEG file, so through 8 bits whatever the images came as."""
    result = np.empty_like(x)
    for place, image in zip(result, np.rint(255 * x).astype(np.uint8), strict=True):
        file = io.BytesIO()
        Image.fromarray(np.squeeze(image)).save(file, "JPEG", quality=quality)
        with Image.open(file) as decoded:
            place[...] = np.asarray(decoded).reshape(place.shape)
    result /= 255
    return result

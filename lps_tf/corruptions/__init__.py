"""The 19 common corruptions of CIFAR-10-C, for batches of images of any size.

Each image's randomness comes from its own stream: the same image, seed and index
give the same bits alone, in any batch and in any process. Without randomness the
results are those of the original generator to within a grey level; with it, as strong
as its. The exception is frost, which is drawn (see `ice`): the original lays
photographs over its images.

Grey images, of one channel, get what colour images of three equal channels would,
turned back to grey.
"""

from collections.abc import Callable, Sequence

import numpy as np

from lps_tf._internal import checks
from lps_tf.corruptions import blur, digital, frost, noise, spatter, weather
from lps_tf.corruptions.parameters import PARAMETERS
from lps_tf.corruptions.streams import Streams

__all__ = ["CORRUPTIONS", "OUT_OF_DISTRIBUTION", "PAPER", "PARAMETERS", "corrupt"]

_FUNCTIONS: dict[str, Callable] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "speckle_noise": noise.speckle_noise,
    "gaussian_blur": blur.gaussian_blur,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "frost": frost.frost,
    "fog": weather.fog,
    "brightness": digital.brightness,
    "contrast": digital.contrast,
    "saturate": digital.saturate,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
    "spatter": spatter.spatter,
}

#: All of them.
CORRUPTIONS: tuple[str, ...] = tuple(_FUNCTIONS)

#: The twelve that the paper trains on.
PAPER = (
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)

#: Those that the paper holds back to test on.
OUT_OF_DISTRIBUTION = ("gaussian_blur", "spatter", "saturate")

# Values worked on at once: their arrays of float32 stay in a processor's cache.
_CHUNK = 2**16


def corrupt(
    images: np.ndarray,
    name: str,
    severity: int = 5,
    seed: int = 0,
    index: Sequence[int] | np.ndarray | None = None,
) -> np.ndarray:
    """Corrupts each image of a batch.

    Args:
        images: (n, height, width, 1 or 3), uint8, or floats in [0, 1]; sides of at
            least 16 pixels.
        name: one of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: of the random draws; a whole number of at least 0.
        index: numbers of the images, (n,), default 0 to n - 1. An image's draws
            depend on (seed, name, severity, its number) alone.

    Returns:
        Images of the same shape and dtype. Bytes are truncated, not rounded, as in
        CIFAR-10-C; floats, computed as float32, are clipped to [0, 1].

    Raises:
        ValueError: for an unknown name or severity, or images, a seed or an index
            of another kind.
    """
    if name not in _FUNCTIONS:
        raise ValueError(f"`name` must be one of {CORRUPTIONS}. Received: name={name}")
    if severity not in range(1, 6):
        raise ValueError(
            f"`severity` must be one of 1 to 5. Received: severity={severity}"
        )
    checks.count("seed", seed, least=0)
    images = _checked_images(images)
    index = _checked_index(index, len(images))
    seed, severity = int(seed), int(severity)
    setting = PARAMETERS[name][severity - 1]
    result = np.empty_like(images)
    size = max(1, _CHUNK // images[0].size)
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        x = images[part].astype(np.float32)
        if images.dtype == np.uint8:
            x /= 255
        x = _FUNCTIONS[name](x, setting, Streams(seed, name, severity, index[part]))
        np.clip(x, 0, 1, out=x)
        if images.dtype == np.uint8:
            x *= 255
            # Pillow's box filter rounds. In the others, a value that was to stay must
            # not fall short of itself by the error of float32.
            x += 0.5 if name == "pixelate" else 1e-3
        result[part] = x
    return result


def _checked_images(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise ValueError(
            "`images` must be uint8, or floats in [0, 1]. "
            f"Received dtype {images.dtype}."
        )
    checks.image_spec("images", images.shape, np.float32)
    count, height, width, channels = images.shape
    if count == 0:
        raise ValueError(f"`images` is empty. Received shape {images.shape}.")
    if min(height, width) < 16 or channels not in (1, 3):
        raise ValueError(
            "`images` must have sides of at least 16 pixels and 1 or 3 channels. "
            f"Received shape {images.shape}."
        )
    if images.dtype != np.uint8:
        checks.in_range("images", float(images.min()), float(images.max()))
    return images


def _checked_index(index: Sequence[int] | np.ndarray | None, count: int) -> np.ndarray:
    if index is None:
        return np.arange(count)
    index = np.asarray(index)
    if index.shape != (count,) or index.dtype.kind not in "iu" or index.min() < 0:
        raise ValueError(
            "`index` must hold one whole number of at least 0 for each of the "
            f"{count} images. Received shape {index.shape}, dtype {index.dtype}: "
            f"{np.array2string(index, threshold=8)}"
        )
    return index

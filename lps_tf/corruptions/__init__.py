"""The 19 common corruptions of CIFAR-10-C, for batches of images of any size.

Each image's randomness comes from its own stream: the same image, seed and index
give the same bits alone, in any batch and in any process. Without randomness the
results are those of the original generator to within a grey level; with it, as strong
as its. The exception is frost, which is drawn (see `frost`): the original lays
photographs over its images.

NumPy, SciPy and Pillow do the work, without TensorFlow; in the graph of a
`Dataset.map`, call `corrupt_tensor` instead of `corrupt`.

Grey images, of one channel, get what colour images of three equal channels would,
turned back to grey.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lps_tf._internal import numbers
from lps_tf.corruptions import blur, digital, frost, noise, spatter, weather
from lps_tf.corruptions.parameters import PARAMETERS
from lps_tf.corruptions.streams import Streams

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = [
    "BENCHMARK",
    "CORRUPTIONS",
    "OUT_OF_DISTRIBUTION",
    "PAPER",
    "PARAMETERS",
    "corrupt",
    "corrupt_tensor",
]

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

#: The fifteen that the mean corruption error is of (Hendrycks and Dietterich 2019).
BENCHMARK = ("gaussian_noise", "shot_noise", "impulse_noise", *PAPER)

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
        images: Images (n, height, width, 1 or 3), uint8, or floats in [0, 1]; sides of
            at least 16 pixels.
        name: One of `CORRUPTIONS`.
        severity: Strength, 1 to 5.
        seed: Seed of the random draws; a whole number of at least 0.
        index: Indices of the images, (n,), by default 0 to n - 1. An image's randomness
            depend on (seed, name, severity, its number) alone.

    Returns:
        Images of the same shape and dtype. Bytes are truncated, not rounded, as in
        CIFAR-10-C; floats, computed as float32, are clipped to [0, 1].

    Raises:
        ValueError: For an unknown name or severity, or images, a seed or an index
            of another kind.
    """
    name, severity, seed = _checked_setting(name, severity, seed)
    images = _checked_images(images)
    index = _checked_index(index, len(images))
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


def corrupt_tensor(
    images: "tf.Tensor", index: "tf.Tensor", name: str, severity: int = 5, seed: int = 0
) -> "tf.Tensor":
    """Corrupts tensors, also inside the graph of a `Dataset.map`.

    NumPy does it there too, on one core a call: let `map` run several calls at once.
    Every image needs an index of its own, or all would get the same random numbers.

    Example:
        def fog(i, example):
            x, y = example
            return x, corrupt_tensor(x, i, "fog", severity=3)

        pairs = images.enumerate().map(fog, tf.data.AUTOTUNE).batch(32)

    Args:
        images: One image (height, width, channels), or a batch of them; see `corrupt`.
        index: Number of the image, an integer; for a batch the number of its first
            image, from which the others count on, or one number for each, (batch,).
        name: One of `CORRUPTIONS`.
        severity: Strength, 1 to 5.
        seed: Seed of the random draws; a whole number of at least 0.

    Returns:
        Images of the same shape and dtype, the static shape included.

    Raises:
        ValueError: For an unknown name or severity, or tensors of another rank.
        InvalidArgumentError: TensorFlow's, where `corrupt` refuses the values.
    """
    import tensorflow as tf

    name, severity, seed = _checked_setting(name, severity, seed)
    images, index = tf.convert_to_tensor(images), tf.cast(index, tf.int64)
    if images.shape.rank not in (3, 4) or index.shape.rank not in (0, 1):
        raise ValueError(
            "`images` must be an image (height, width, channels) or a batch of them, "
            "and `index` an integer or a batch of them; `tf.ensure_shape` tells a "
            "graph what it does not know. Received shapes "
            f"{images.shape} and {index.shape}."
        )
    single = images.shape.rank == 3

    def numpy_corrupt(x: np.ndarray, first: np.ndarray) -> np.ndarray:
        x = x[None] if single else x
        index = first + np.arange(len(x)) if first.ndim == 0 else first
        result = corrupt(x, name, severity, seed, index)
        return result[0] if single else result

    # Stateless: equal inputs have equal results, whatever is drawn for them.
    result = tf.numpy_function(
        numpy_corrupt, [images, index], images.dtype, stateful=False
    )
    return tf.ensure_shape(result, images.shape)


def _checked_setting(name: str, severity: int, seed: int) -> tuple[str, int, int]:
    if name not in _FUNCTIONS:
        raise ValueError(f"`name` must be one of {CORRUPTIONS}. Received: name={name}")
    if severity not in range(1, 6):
        raise ValueError(
            f"`severity` must be one of 1 to 5. Received: severity={severity}"
        )
    return name, int(severity), numbers.count("seed", seed, least=0)


def _checked_images(images: np.ndarray) -> np.ndarray:
    try:
        images = np.asarray(images)
    except NotImplementedError:
        raise ValueError(
            "`images` must have values. Received a tensor of a graph; call "
            "`corrupt_tensor` there, in a `Dataset.map` for instance."
        ) from None
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise ValueError(
            "`images` must be uint8, or floats in [0, 1]. "
            f"Received dtype {images.dtype}."
        )
    if images.ndim != 4:
        raise ValueError(
            "`images` must be a batch of images of shape (batch, height, width, "
            f"channels). Received an array of rank {images.ndim}, shape {images.shape}."
        )
    count, height, width, channels = images.shape
    if count == 0:
        raise ValueError(f"`images` is empty. Received shape {images.shape}.")
    if min(height, width) < 16 or channels not in (1, 3):
        raise ValueError(
            "`images` must have sides of at least 16 pixels and 1 or 3 channels. "
            f"Received shape {images.shape}."
        )
    if images.dtype != np.uint8:
        numbers.in_range("images", float(images.min()), float(images.max()))
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

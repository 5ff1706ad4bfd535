"""What is read of image files: their sizes from the headers, then their pixels."""

import functools
import os
import warnings
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image, ImageFile, ImageOps

from lps_tf._internal import checks

#: Pillow's modes by the number of channels.
MODES = {1: "L", 3: "RGB"}
# Formats that Pillow recognises and cannot decode.
_NO_PICTURES = {"MPEG"}


@functools.cache
def suffixes() -> frozenset[str]:
    """Suffixes, in lower case, of the files that Pillow can decode."""
    every = Image.registered_extensions()  # which loads all of Pillow's decoders
    stubs = {
        name
        for name, (opener, _) in Image.OPEN.items()
        if isinstance(opener, type) and issubclass(opener, ImageFile.StubImageFile)
    }
    readable = Image.OPEN.keys() - stubs - _NO_PICTURES
    return frozenset(suffix for suffix, name in every.items() if name in readable)


class Headers:
    """Sizes of images, and what is wrong with the others; decodes nothing.

    Attributes:
        sizes: Paths by (height, width), as the image stands upright.
        broken: Paths of files that cannot be read.
        floats: Paths of images whose values are no 8 or 16 bits.
    """

    def __init__(self):
        self.sizes: dict[tuple[int, int], list[str]] = defaultdict(list)
        self.broken: list[str] = []
        self.floats: list[str] = []

    def read(self, path: str) -> tuple[int, int] | None:
        """Notes an image and returns its (height, width), None if it has none."""
        try:
            with warnings.catch_warnings(), Image.open(path) as image:
                warnings.simplefilter("ignore")  # of odd metadata
                width, height = image.size
                if _is_turned(image):
                    width, height = height, width
                mode = image.mode
                image.verify()
        except Exception:  # decoders raise errors of many kinds
            self.broken.append(path)
            return None
        if mode == "F":
            self.floats.append(path)
        self.sizes[height, width].append(path)
        return height, width


def _is_turned(image: Image.Image) -> bool:
    # Pillow turns TIFF itself. PNG without the entry would be decoded to look for it.
    if image.format == "TIFF" or "exif" not in image.info:
        return False
    return image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)


def read(path: str | bytes, size: tuple[int, int], channels: int) -> np.ndarray:
    """Reads an image, upright and in 8 bits.

    Args:
        path: Path of the file.
        size: (height, width) to which it is resized.
        channels: 1 for grey images, 3 for RGB.

    Returns:
        Bytes (height, width, channels).

    Raises:
        ValueError: If the file cannot be decoded, with its name.
    """
    height, width = size
    path = os.fsdecode(path)
    try:
        with Image.open(path) as image:
            # A large JPEG comes at a half, a quarter or an eighth of its size, as
            # long as that is twice what is wanted, turned or not.
            least = 2 * max(height, width)
            image.draft(MODES[channels], (least, least))
            image = ImageOps.exif_transpose(image)
            image = _in_8_bits(image).convert(MODES[channels])
            if image.size != (width, height):
                image = image.resize((width, height), Image.Resampling.BILINEAR)
            return np.asarray(image).reshape(height, width, channels)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be decoded; replace or remove it. Pillow says: {error}"
        ) from None


def decoder(size: tuple[int, int], channels: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Makes a function from the path of an image to its pixels.

    Args:
        size: (height, width) to which images are resized.
        channels: 1 for grey images, 3 for RGB.

    Returns:
        A function for tf.data; it returns floats (height, width, channels) in [0, 1].
    """

    def marked(path: bytes) -> np.ndarray:
        try:
            return read(path, size, channels)
        except ValueError as error:
            raise ValueError(f"{checks.MARK} {error}") from None

    def decode(path: tf.Tensor) -> tf.Tensor:
        # With Pillow, because TensorFlow's own decoders do not say which file is
        # damaged and refuse most formats.
        image = tf.numpy_function(marked, [path], tf.uint8, stateful=False)
        image = tf.ensure_shape(image, (*size, channels))
        return tf.cast(image, tf.float32) / 255

    return decode


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Scales images of 16 bits, which Pillow's `convert` would clip."""
    if image.mode == "LAB":
        return image.convert("RGB")  # the only mode that Pillow has a way to
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"values from {values.min()} to {values.max()} are no 8 or 16 bits"
        )
    return Image.fromarray(np.uint8(np.rint(values / 257)))

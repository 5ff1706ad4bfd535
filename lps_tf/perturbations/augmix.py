"""AugMix: mixtures of chains of simple image operations.

`keras.layers.AugMix` is not it. Keras 3.15 chooses the operations with Python's random
numbers, so that a compiled training step repeats the ones it was traced with; a batch
has one choice and one mixture in common, and its histogram is equalised as a whole.
By default it rotates by up to 108 degrees instead of 9, keeps one bit of eight instead
of three, and includes brightness, contrast and sharpness, which the paper leaves out
because the corruptions that it is tested on are such.
"""

import math
from typing import Any

import tensorflow as tf

from lps_tf._internal import resampling
from lps_tf.perturbations.mixing import MixedChains
from lps_tf.sets import latent

#: Strength of the operations, of 10; the paper's for CIFAR-10.
SEVERITY = 3.0
#: The operations, of which an image has one at a time. From the fifth on they are
#: affine maps of the coordinates.
OPERATIONS = (
    "autocontrast",
    "equalize",
    "posterize",
    "solarize",
    "rotate",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)


class AugMix(MixedChains):
    """AugMix (Hendrycks et al. 2020): images mixed with chains of simple operations.

    Auto-contrast, equalisation, posterisation, solarisation, rotation, shear and
    translation, at the paper's severity of 3; see `MixedChains` for the mixture. The
    baseline for common corruptions: none of its operations is one of them. The paper
    trains with the consistency of two versions and the image.

    Example:
        RobustClassifier(classifier, AugMix(), lps.objectives.JensenShannon())

    Args:
        num_samples: Number of augmented versions of each image.
        seed: Seed of the calls that are given no key.

    Raises:
        ValueError: If there is no version.

    References:
        Hendrycks et al. (2020), "AugMix: A simple data processing method to improve
        robustness and uncertainty", arXiv:1912.02781, section 3 and algorithm 1.
    """

    def _transformed(self, x: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        keys = latent.split(key, 3)
        n = tf.shape(x)[:1]
        operation = latent.whole_numbers(n, len(OPERATIONS), keys[0])
        strength = 0.1 + (SEVERITY - 0.1) * latent.uniform(n, keys[1])
        sign = 2.0 * tf.cast(latent.whole_numbers(n, 2, keys[2]), tf.float32) - 1.0
        return operated(x, operation, strength, sign)


def operated(
    x: tf.Tensor, operation: tf.Tensor, strength: tf.Tensor, sign: tf.Tensor
) -> tf.Tensor:
    """Images, each under one operation.

    Amounts are the paper's: at a strength of 10, 30 degrees, a shear of 0.3, a third
    of the side, four bits, 256 levels. Where they count degrees, pixels, bits or
    levels they are whole numbers, rounded down.

    Args:
        x: Images in [0, 1], (n, height, width, channels).
        operation: Index in `OPERATIONS`, (n,).
        strength: Strength, 0 to 10, (n,).
        sign: Direction of what has two, 1 or -1, (n,).
    """
    height, width = x.shape[1:3]

    def only(name: str, amount: tf.Tensor) -> tf.Tensor:
        return tf.where(operation == OPERATIONS.index(name), amount, 0.0)

    moved = _moved(
        x,
        angle=only("rotate", sign * tf.floor(strength * 3) * (math.pi / 180)),
        shear_x=only("shear_x", sign * strength * 0.03),
        shear_y=only("shear_y", sign * strength * 0.03),
        right=only("translate_x", sign * tf.floor(strength * (width / 30))),
        down=only("translate_y", sign * tf.floor(strength * (height / 30))),
    )
    levels = [
        _autocontrast(x),
        _equalized(x),
        _posterized(x, tf.floor(strength * 0.4)),
        _solarized(x, tf.floor(strength * 25.6)),
    ]
    for index, changed in enumerate(levels):
        moved = latent.where(operation == index, changed, moved)
    return moved


def _moved(
    x: tf.Tensor,
    *,
    angle: tf.Tensor,
    shear_x: tf.Tensor,
    shear_y: tf.Tensor,
    right: tf.Tensor,
    down: tf.Tensor,
) -> tf.Tensor:
    """Images resampled by affine maps; black outside. All amounts are (n,).

    The maps lead from the output to the input, as Pillow's, which the paper uses: the
    angle is counter-clockwise as seen, and shears are about the upper left corner.
    """
    height, width = x.shape[1:3]
    # Sampling goes on with the border, here of a black frame.
    framed = tf.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    tall, wide = height + 2, width + 2
    cos, sin = tf.cos(angle), tf.sin(angle)
    # In pixels about the centre; shears about the corner move the centre as well.
    matrix = [[cos, shear_x - sin], [shear_y + sin, cos]]
    shift = [right + shear_x * (height / 2), down + shear_y * (width / 2)]
    # As `resampling` has it, half the side of the image is 1.
    rows = [
        [matrix[0][0], matrix[0][1] * (tall / wide), shift[0] * (2 / wide)],
        [matrix[1][0] * (wide / tall), matrix[1][1], shift[1] * (2 / tall)],
    ]
    maps = tf.stack([tf.stack(row, -1) for row in rows], 1)  # (n, 2, 3)
    table = resampling.neighbour_table(framed)
    found = resampling.affine_sample(table, maps[:, None], tall, wide)
    return found[:, 1:-1, 1:-1]


def _per_image(value: tf.Tensor) -> tf.Tensor:
    return value[:, None, None, None]


def _bytes(x: tf.Tensor) -> tf.Tensor:
    """Images as the nearest of 256 levels, float32."""
    return tf.round(255 * x)


def _autocontrast(x: tf.Tensor) -> tf.Tensor:
    """Each channel of an image stretched to [0, 1]; an even one stays."""
    low = tf.reduce_min(x, (1, 2), keepdims=True)
    high = tf.reduce_max(x, (1, 2), keepdims=True)
    return tf.where(high > low, tf.math.divide_no_nan(x - low, high - low), x)


def _posterized(x: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """The upper 4 - `bits` bits (n,) of each value."""
    step = _per_image(2.0 ** (4.0 + bits))
    return tf.floor(_bytes(x) / step) * step / 255


def _solarized(x: tf.Tensor, levels: tf.Tensor) -> tf.Tensor:
    """Values among the `levels` (n,) brightest inverted."""
    return tf.where(_bytes(x) < _per_image(256 - levels), x, 1 - x)


def _equalized(x: tf.Tensor) -> tf.Tensor:
    """Each channel of an image with an even histogram, as Pillow defines it."""
    shape: Any = tf.shape(x)
    n, channels = shape[0], shape[3]
    level = tf.cast(_bytes(x), tf.int32)
    # Each image and channel has 256 counts of its own in a long vector.
    start = 256 * tf.reshape(tf.range(n * channels), (n, 1, 1, channels))
    index = level + start
    counts = tf.math.unsorted_segment_sum(
        tf.ones_like(x), index, 256 * n * channels
    )  # whole numbers, in float32: GPUs have no sum of int32
    counts = tf.cast(tf.reshape(counts, (-1, 256)), tf.int32)
    below = tf.cumsum(counts, 1, exclusive=True)
    total = shape[1] * shape[2]
    brightest = tf.reshape(tf.reduce_max(level, (1, 2)), (-1, 1))
    # The count of the brightest level, which is the last one that there is.
    last = tf.gather(counts, brightest, batch_dims=1)
    step = (total - last) // 255
    safe = tf.maximum(step, 1)
    table = tf.minimum((safe // 2 + below) // safe, 255)
    # So few values that a step would be zero, or a single one: they stay.
    table = tf.where(step > 0, table, tf.range(256))
    return tf.cast(tf.gather(tf.reshape(table, (-1,)), index), tf.float32) / 255

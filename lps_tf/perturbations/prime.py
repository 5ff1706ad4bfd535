"""PRIME: mixtures of random filters, smooth deformations and curves of colour."""

import numpy as np
import tensorflow as tf

from lps_tf.perturbations.mixing import MixedChains
from lps_tf.sets import latent

# The strengths that the paper trains with on CIFAR-10. Each image's is uniform up to
# them.
#: Side of the filters, and largest standard deviation of their coefficients.
KERNEL, FILTER_SIGMA = 3, 4.0
#: Largest number of modes of a deformation along an axis, and of a curve of colour.
MODES = 100
#: Largest variance of the coefficients of a curve of colour.
COLOUR_VARIANCE = 0.01
# Levels at which a curve is computed: the 256 of a byte, and three between each two.
_LEVELS = 4 * 255 + 1


class Prime(MixedChains):
    """PRIME (Modas et al. 2022): images mixed with chains of max-entropy primitives.

    Each is the most random transformation of its kind that is smooth to a degree: a
    random filter of 3x3 pixels (spectral), a random diffeomorphism (spatial), and a
    random curve of each colour. See `MixedChains` for the mixture. The paper trains
    with the consistency of two versions and the image.

    Example:
        RobustClassifier(classifier, Prime(), lps.objectives.JensenShannon())

    Args:
        num_samples: Number of augmented versions of each image.
        seed: Seed of the calls that are given no key.

    Raises:
        ValueError: If there is no version.

    References:
        Modas et al. (2022), "PRIME: A few primitives can boost robustness to common
        corruptions", arXiv:2112.13547, sections 2 and 3. Deformations are those of
        Petrini et al. (2021), "Relative stability toward diffeomorphisms indicates
        performance in deep nets", arXiv:2105.02468.
    """

    def _transformed(self, x: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        keys = latent.split(key, 4)
        # A third of the chains, drawn anew each time, has each of the primitives: each
        # image any of them, as if they were drawn one by one, in a third of the time.
        # There are CHAINS times as many as images, so that the thirds are whole.
        order = tf.argsort(latent.uniform(tf.shape(x)[:1], keys[0]))
        thirds = tf.reshape(
            tf.gather(x, order), tf.concat([[3, -1], tf.shape(x)[1:]], 0)
        )
        thirds = tf.ensure_shape(thirds, (3, None, *x.shape[1:]))
        changed = [
            primitive(thirds[i], keys[1 + i])
            for i, primitive in enumerate((filtered, deformed, recoloured))
        ]
        return tf.gather(tf.concat(changed, 0), tf.argsort(order))


def filtered(x: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Images under random filters delta + sigma N(0, I), clipped to [0, 1].

    The channels of an image share a filter; sigma is uniform in [0, 4].

    Args:
        x: Images, (n, height, width, channels).
        key: Key of the random numbers.
    """
    keys = latent.split(key, 2)
    n = tf.shape(x)[0]
    sigma = FILTER_SIGMA * latent.uniform((n, 1, 1), keys[0])
    kernel = sigma * latent.standard_normal((n, KERNEL, KERNEL), keys[1])
    # The published program has the identity one pixel off the middle.
    identity = np.zeros((KERNEL, KERNEL), np.float32)
    identity[KERNEL // 2, KERNEL // 2] = 1
    return tf.clip_by_value(correlated(x, kernel + identity), 0.0, 1.0)


def correlated(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Each image correlated with its own kernel, zeros outside.

    Args:
        x: Images, (n, height, width, channels).
        kernel: A kernel for each, (n, side, side), the side odd.
    """
    height, width = x.shape[1:3]
    side = kernel.shape[1]
    reach = side // 2
    padded = tf.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    return tf.add_n(
        [
            kernel[:, i, j, None, None, None] * padded[:, i : i + height, j : j + width]
            for i in range(side)
            for j in range(side)
        ]
    )


def deformed(x: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Images under random diffeomorphisms, bilinear, the border going on.

    Each coordinate is displaced by sqrt(T) sum over i^2 + j^2 <= K^2 of
    c_ij sin(pi i u) sin(pi j v) of the side, with c_ij from N(0, 1 / (i^2 + j^2)) and
    u, v in [0, 1]. K is uniform in 2 to 100, but at most the side: more modes than
    pixels cannot be told apart. T is uniform between what moves the centre by half a
    pixel, typically, and the largest one that folds nothing over.

    Args:
        x: Images, (n, height, width, channels).
        key: Key of the random numbers.
    """
    keys = latent.split(key, 3)
    n = tf.shape(x)[0]
    height, width = x.shape[1:3]
    modes = min(MODES, max(height, width))
    cut = 2.0 + tf.cast(latent.whole_numbers((n,), MODES - 1, keys[0]), tf.float32)
    cut = tf.minimum(cut, float(modes))
    least = 1 / (np.pi * height * width * tf.math.log(cut))
    most = 4 / (np.pi**3 * cut**2 * tf.math.log(cut))
    share = latent.uniform((n,), keys[1])
    temperature = least + share * (tf.maximum(most, least) - least)
    # Down and right: (2, n, modes, modes) coefficients.
    normal = latent.standard_normal((2, n, modes, modes), keys[2])
    k = np.arange(1, modes + 1, dtype=np.float32)
    frequency = np.sqrt(k[:, None] ** 2 + k**2)
    inside = tf.cast(frequency < cut[:, None, None] + 0.5, tf.float32)
    coefficients = normal * inside / frequency
    waves = [
        np.sin(np.pi * np.linspace(0, 1, side)[:, None] * k).astype(np.float32)
        for side in (height, width)
    ]
    # (2, n, i, j) -> (2, n, i, width) -> (2, n, width, height), as flat products.
    field = tf.tensordot(coefficients, waves[1], [[3], [1]])
    field = tf.tensordot(field, waves[0], [[2], [1]])
    field = tf.linalg.matrix_transpose(field) * tf.sqrt(temperature)[:, None, None]
    return displaced(x, field[0] * height, field[1] * width)


def displaced(x: tf.Tensor, down: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Images whose pixels read, bilinearly, a place that is that far away.

    Args:
        x: Images, (n, height, width, channels).
        down: Pixels, (n, height, width).
        right: Pixels, (n, height, width).
    """
    height, width, channels = x.shape[1:]
    row = np.arange(height, dtype=np.float32)[:, None] + down
    column = np.arange(width, dtype=np.float32) + right
    row = tf.clip_by_value(row, 0.0, height - 1.0)
    column = tf.clip_by_value(column, 0.0, width - 1.0)
    top, left = tf.floor(row), tf.floor(column)
    flat = tf.reshape(x, (-1, height * width, channels))

    def corner(i: tf.Tensor, j: tf.Tensor) -> tf.Tensor:
        index = tf.cast(tf.minimum(i, height - 1.0), tf.int32) * width
        index += tf.cast(tf.minimum(j, width - 1.0), tf.int32)
        return tf.gather(flat, index, batch_dims=1)  # (n, height, width, channels)

    low, aside = (row - top)[..., None], (column - left)[..., None]
    upper = (1 - aside) * corner(top, left) + aside * corner(top, left + 1)
    lower = (1 - aside) * corner(top + 1, left) + aside * corner(top + 1, left + 1)
    return (1 - low) * upper + low * lower


def recoloured(x: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Images with random curves of colour, x + sum_k b_k sin(pi k x), in [0, 1].

    k goes to K, uniform in 1 to 100; b_k is of N(0, T), T uniform in [0, 0.01]. Each
    channel has its own curve.

    Args:
        x: Images, (n, height, width, channels).
        key: Key of the random numbers.
    """
    keys = latent.split(key, 3)
    n, channels = tf.shape(x)[0], x.shape[3]
    cut = 1 + latent.whole_numbers((n, 1, 1), MODES, keys[0])
    variance = COLOUR_VARIANCE * latent.uniform((n, 1, 1), keys[1])
    normal = latent.standard_normal((n, channels, MODES), keys[2])
    inside = tf.cast(tf.range(1, MODES + 1) <= cut, tf.float32)
    return curved(x, normal * inside * tf.sqrt(variance))


def curved(x: tf.Tensor, coefficients: tf.Tensor) -> tf.Tensor:
    """Images x + sum_k b_k sin(pi k x) in [0, 1], exact at the 256 levels of a byte.

    Between them the curve is straight over a quarter of a level: a hundred sines of
    each pixel would cost more than a training step.

    Args:
        x: Images in [0, 1], (n, height, width, channels).
        coefficients: Coefficients b_k, (n, channels, number).
    """
    height, width, channels = x.shape[1:]
    number = coefficients.shape[2]
    levels = np.linspace(0, 1, _LEVELS)
    sines = np.sin(np.pi * np.arange(1, number + 1)[:, None] * levels)
    curve = tf.reshape(coefficients, (-1, number)) @ sines.astype(np.float32)
    # (n * channels, levels), and one row of pixels for each of them.
    pixels = tf.reshape(tf.transpose(x, (0, 3, 1, 2)), (-1, height * width))
    place = pixels * (_LEVELS - 1)
    before = tf.clip_by_value(tf.floor(place), 0.0, _LEVELS - 2.0)
    index = tf.cast(before, tf.int32)
    low = tf.gather(curve, index, batch_dims=1)
    high = tf.gather(curve, index + 1, batch_dims=1)
    values = pixels + low + (place - before) * (high - low)
    values = tf.reshape(values, (-1, channels, height, width))
    return tf.clip_by_value(tf.transpose(values, (0, 2, 3, 1)), 0.0, 1.0)

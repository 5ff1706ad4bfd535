"""AugMix's operations against Pillow's, with which the paper makes them."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter

import lps_tf as lps
from lps_tf.perturbations.augmix import OPERATIONS, operated

HEIGHT, WIDTH = 30, 24


def smooth_images(channels):
    noise = np.random.RandomState(0).rand(3, HEIGHT, WIDTH, channels)
    smooth = gaussian_filter(noise, (0, 2, 2, 0))
    smooth -= smooth.min()
    # A byte, but not all of its levels: so that contrast can be stretched.
    return np.uint8(30 + 190 * smooth / smooth.max())


def by_pillow(image, name, strength, sign):
    """What the paper's operations do at a strength, amounts typed from its program."""

    def affine(*coefficients):
        size = image.size
        return image.transform(size, Image.AFFINE, coefficients, Image.BILINEAR)

    shear = sign * strength * 0.3 / 10
    right, down = (sign * int(strength * side / 3 / 10) for side in image.size)
    return {
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "posterize": lambda: ImageOps.posterize(image, 4 - int(strength * 4 / 10)),
        "solarize": lambda: ImageOps.solarize(image, 256 - int(strength * 256 / 10)),
        "rotate": lambda: image.rotate(sign * int(strength * 3), Image.BILINEAR),
        "shear_x": lambda: affine(1, shear, 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, shear, 1, 0),
        "translate_x": lambda: affine(1, 0, right, 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, down),
    }[name]()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_pillows(name, channels):
    images = smooth_images(channels)
    for strength, sign in ((2.9, 1), (2.9, -1), (1.5, 1), (0.2, -1)):
        found = operated(
            tf.constant(images / np.float32(255)),
            tf.fill(3, OPERATIONS.index(name)),
            tf.fill(3, strength),
            tf.fill(3, float(sign)),
        )
        for image, ours in zip(images, found.numpy(), strict=True):
            pillow = Image.fromarray(image if channels == 3 else image[..., 0])
            theirs = np.asarray(by_pillow(pillow, name, strength, sign))
            error = np.abs(255 * ours.squeeze() - theirs)
            if OPERATIONS.index(name) < 4:
                assert error.max() <= 1.01
            else:  # at the border Pillow does not mix with what is outside
                assert error[3:-3, 3:-3].max() <= 1.01
                assert error.mean() < 4


def test_operations_of_a_batch_are_each_images_own():
    x = tf.constant(smooth_images(1) / np.float32(255))[:1]
    batch = tf.repeat(x, len(OPERATIONS), 0)
    which, ones = tf.range(len(OPERATIONS)), tf.ones(len(OPERATIONS))
    together = operated(batch, which, 2.9 * ones, ones)
    for index, found in enumerate(together):
        alone = operated(x, which[index : index + 1], 2.9 * ones[:1], ones[:1])
        # Coordinates of up to 24 pixels, rounded by another order of summation.
        np.testing.assert_allclose(found, alone[0], atol=1e-5)
    assert len(np.unique(together.numpy().round(4), axis=0)) == len(OPERATIONS)


@pytest.mark.parametrize("name", ["autocontrast", "equalize"])
def test_even_images_stay(name):
    x = tf.fill((2, 16, 16, 3), 0.3)
    index = tf.fill(2, OPERATIONS.index(name))
    found = operated(x, index, tf.ones(2), tf.ones(2))
    np.testing.assert_allclose(found, x, atol=0.5 / 255)


def test_every_operation_occurs_and_most_images_are_changed():
    x = np.random.RandomState(0).rand(300, 16, 16, 1).astype(np.float32)
    found = lps.AugMix(num_samples=1)(None, x, np.zeros(300), tf.constant([1, 2]))
    changed = np.abs(found - x).max((1, 2, 3)) > 0.01
    assert changed.mean() > 0.9

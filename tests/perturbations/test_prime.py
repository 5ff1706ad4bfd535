"""PRIME's primitives against SciPy, and against sums written out."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from lps_tf.perturbations import prime
from lps_tf.sets import latent

KEY = tf.constant([3, 4])


def images(n=4, shape=(17, 14, 3)):
    return np.random.RandomState(0).rand(n, *shape).astype(np.float32)


def test_each_chain_has_one_primitive_and_stays_in_its_place(monkeypatch):
    # Each of the primitives leaves a mark, and the number of the image.
    for mark, name in ((100, "filtered"), (200, "deformed"), (300, "recoloured")):
        monkeypatch.setattr(prime, name, lambda x, key, mark=mark: x + mark)
    x = tf.reshape(tf.range(30.0), (30, 1, 1, 1))
    found = prime.Prime()._transformed(x, KEY).numpy()[:, 0, 0, 0]
    np.testing.assert_array_equal(found % 100, np.arange(30))
    assert np.bincount(np.int64(found // 100)).tolist() == [0, 10, 10, 10]
    again = prime.Prime()._transformed(x, tf.constant([5, 6])).numpy()[:, 0, 0, 0]
    assert (again != found).any()


def test_correlation_is_scipys():
    x, kernels = images(), np.random.RandomState(1).normal(size=(4, 3, 3))
    found = prime.correlated(tf.constant(x), tf.constant(kernels, tf.float32))
    for image, kernel, ours in zip(x, kernels, found, strict=True):
        expected = ndimage.correlate(image, kernel[..., None], mode="constant")
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_filters_are_the_identity_and_noise_of_uniform_strength():
    # The image of a point is the filter, turned around; half the grey keeps what is
    # negative or above 1 apart from what is clipped.
    n = 3000
    x = np.zeros((n, 5, 5, 1), np.float32)
    x[:, 2, 2] = 1e-3  # nothing of it is clipped above
    found = prime.filtered(tf.constant(x), KEY).numpy()[:, 1:4, 1:4, 0] / 1e-3
    middle, others = found[:, 1, 1], found[:, 0, 0]
    # Half of the coefficients are negative, and clipped.
    assert abs((others == 0).mean() - 0.5) < 0.03
    # E sigma^2 of a uniform sigma in [0, 4] is 16/3; of the positive half the same.
    assert np.mean(others**2) == pytest.approx(16 / 3 / 2, rel=0.15)
    assert np.mean(middle**2) > np.mean(others**2) + 0.5


@pytest.mark.parametrize("channels", [1, 3])
def test_displacement_is_scipys(channels):
    x = images(shape=(17, 14, channels))
    random = np.random.RandomState(1)
    down, right = random.normal(0, 3, (2, 4, 17, 14)).astype(np.float32)
    found = prime.displaced(tf.constant(x), tf.constant(down), tf.constant(right))
    rows, columns = np.mgrid[:17, :14]
    for i in range(4):
        places = rows + down[i], columns + right[i]
        for c in range(channels):
            expected = ndimage.map_coordinates(
                x[i, ..., c], places, order=1, mode="nearest"
            )
            np.testing.assert_allclose(found[i, ..., c], expected, atol=1e-5)


def test_deformations_are_the_sums_of_sines():
    height, width, n = 9, 12, 5
    keys = latent.split(KEY, 3)
    cuts = tf.random.stateless_uniform((n,), keys[0], 0, 99, tf.int32, alg="philox")
    shares = latent.uniform((n,), keys[1]).numpy()
    normal = latent.standard_normal((2, n, 12, 12), keys[2]).numpy()
    x = images(n, (height, width, 2))
    found = prime.deformed(tf.constant(x), KEY)
    u, v = np.linspace(0, 1, height), np.linspace(0, 1, width)
    for image in range(n):
        cut = min(2 + int(cuts[image]), 12)
        low = 1 / (np.pi * height * width * np.log(cut))
        high = max(low, 4 / (np.pi**3 * cut**2 * np.log(cut)))
        temperature = low + shares[image] * (high - low)
        fields = np.zeros((2, height, width))
        for i in range(1, 13):
            for j in range(1, 13):
                if np.hypot(i, j) < cut + 0.5:
                    wave = np.outer(np.sin(np.pi * i * u), np.sin(np.pi * j * v))
                    part = normal[:, image, i - 1, j - 1] / np.hypot(i, j)
                    fields += np.sqrt(temperature) * part[:, None, None] * wave
        rows, columns = np.mgrid[:height, :width]
        places = rows + height * fields[0], columns + width * fields[1]
        for c in range(2):
            expected = ndimage.map_coordinates(
                x[image, ..., c], places, order=1, mode="nearest"
            )
            np.testing.assert_allclose(found[image, ..., c], expected, atol=1e-3)


def test_deformations_move_by_half_a_pixel_or_more_and_mostly_fold_nothing():
    side, n = 32, 400
    ramp = np.tile(np.linspace(0, 1, side, dtype=np.float32), (n, side, 1))[..., None]
    found = prime.deformed(tf.constant(ramp), KEY).numpy()[..., 0]
    moved = (found - ramp[..., 0]) * (side - 1)  # a ramp tells where a pixel read
    middle = moved[:, 12:20, 12:20]
    typical = np.sqrt((middle**2).mean((1, 2)))
    # Most have many modes, for which half a pixel, in both directions together, is
    # all that there may be.
    assert np.median(typical) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)
    assert 1 < typical.max() < 10
    assert (np.diff(found, axis=2) >= -1e-6).mean() > 0.95
    # Corners stay where they are.
    np.testing.assert_allclose(moved[:, [0, 0, -1, -1], [0, -1, 0, -1]], 0, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_curves_are_exact_at_bytes_and_near_them_in_between(channels):
    random = np.random.RandomState(0)
    bytes_of = random.randint(0, 256, (4, 8, 7, channels)) / 255
    b = random.normal(0, 0.1, (4, channels, 100))
    for x, tolerance in ((bytes_of, 2e-4), (random.rand(4, 8, 7, channels), 1 / 60)):
        found = prime.curved(tf.constant(x, tf.float32), tf.constant(b, tf.float32))
        sines = np.sin(np.pi * np.arange(1, 101) * x[..., None])
        expected = x + (b[:, None, None] * sines).sum(-1)
        np.testing.assert_allclose(found, expected.clip(0, 1), atol=tolerance)


def test_recoloured_images_are_curves_of_random_degree():
    x = np.random.RandomState(0).randint(0, 256, (4, 6, 5, 3)) / 255
    keys = latent.split(KEY, 3)
    cuts = tf.random.stateless_uniform((4,), keys[0], 0, 100, tf.int32, alg="philox")
    variances = 0.01 * latent.uniform((4, 1, 1), keys[1]).numpy()
    b = latent.standard_normal((4, 3, 100), keys[2]).numpy() * np.sqrt(variances)
    found = prime.recoloured(tf.constant(x, tf.float32), KEY)
    for i in range(4):
        degree = 1 + int(cuts[i])
        sines = np.sin(np.pi * np.arange(1, degree + 1) * x[i][..., None])
        expected = x[i] + (b[i, :, :degree] * sines).sum(-1)
        np.testing.assert_allclose(found[i], expected.clip(0, 1), atol=3e-4)

"""Affine resampling, against SciPy."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import map_coordinates

from lps_tf._internal import resampling

IDENTITY = [[1, 0, 0], [0, 1, 0]]


def batch_of_images(n, height, width, channels, seed=0):
    random = np.random.RandomState(seed)
    return random.uniform(size=(n, height, width, channels)).astype(np.float32)


def random_maps(n, transforms, seed=1):
    """Maps that turn, shear, scale and move, some of them far out of the image."""
    noise = np.random.RandomState(seed).normal(0, 0.4, (n, transforms, 2, 3))
    return (np.array(IDENTITY) + noise).astype(np.float32)


def reference(images, maps):
    """One pixel grid at a time, by SciPy in float64.

    With align_corners=False pixel i of n has its centre at (2 i + 1) / n - 1.
    """
    images, maps = images.astype(np.float64), maps.astype(np.float64)
    n, height, width, channels = images.shape
    result = np.zeros((n, height, width, maps.shape[1], channels))
    rows, columns = np.mgrid[:height, :width]
    x, y = (2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1
    for i in range(n):
        for t, (to_x, to_y) in enumerate(maps[i]):
            source_x = to_x[0] * x + to_x[1] * y + to_x[2]
            source_y = to_y[0] * x + to_y[1] * y + to_y[2]
            row = ((source_y + 1) * height - 1) / 2
            column = ((source_x + 1) * width - 1) / 2
            for c in range(channels):
                result[i, :, :, t, c] = map_coordinates(
                    images[i, :, :, c], [row, column], order=1, mode="nearest"
                )
    return result.reshape(n, height, width, -1)


def sampled(images, maps):
    table = resampling.neighbour_table(tf.convert_to_tensor(images))
    return resampling.affine_sample(
        table, tf.convert_to_tensor(maps), *images.shape[1:3]
    )


# TensorFlow's batched product with a broadcast factor is wrong beyond 128 rows on a
# CPU: 200 images would show it.
@pytest.mark.parametrize("n", [1, 3, 200])
@pytest.mark.parametrize(
    "height, width, channels, transforms",
    [(12, 12, 1, 1), (9, 14, 3, 2), (14, 9, 2, 3), (1, 6, 1, 1)],
)
def test_resampling_agrees_with_scipy(n, height, width, channels, transforms):
    images = batch_of_images(n, height, width, channels)
    maps = random_maps(n, transforms)
    expected = reference(images, maps)
    np.testing.assert_allclose(sampled(images, maps), expected, atol=2e-5)
    graph = tf.function(lambda m: sampled(images, m))(tf.constant(maps))
    np.testing.assert_allclose(graph, expected, atol=2e-5)


def test_resampling_agrees_with_scipy_under_xla():
    images, maps = batch_of_images(200, 9, 14, 2), random_maps(200, 2)
    compiled = tf.function(sampled, jit_compile=True)
    np.testing.assert_allclose(
        compiled(tf.constant(images), tf.constant(maps)),
        reference(images, maps),
        atol=2e-5,
    )


@pytest.mark.parametrize("shape", [(3, 12, 12, 1), (2, 7, 11, 3)])
def test_the_identity_returns_the_images(shape):
    images = batch_of_images(*shape)
    maps = np.tile(np.float32(IDENTITY), (shape[0], 1, 1, 1))
    np.testing.assert_allclose(sampled(images, maps), images, atol=1e-5)


def test_a_translation_by_whole_pixels_moves_pixels_and_repeats_the_border():
    images = batch_of_images(1, 6, 8, 1)
    maps = np.float32(IDENTITY)[None, None].copy()
    maps[..., 0, 2], maps[..., 1, 2] = 2 * 3 / 8, -2 * 2 / 6  # read 3 right, 2 up
    padded = np.pad(images[0, :, :, 0], ((2, 0), (0, 3)), mode="edge")
    np.testing.assert_allclose(
        sampled(images, maps)[0, :, :, 0], padded[:6, 3:], atol=1e-5
    )


def test_transforms_come_one_after_the_other_each_with_all_channels():
    images, maps = batch_of_images(2, 8, 8, 3), random_maps(2, 4)
    together = sampled(images, maps).numpy()
    assert together.shape == (2, 8, 8, 12)
    for t in range(4):
        alone = sampled(images, maps[:, t : t + 1])
        np.testing.assert_allclose(together[..., 3 * t : 3 * t + 3], alone, atol=1e-6)


def test_gradient_of_the_maps_is_that_of_finite_differences():
    images = batch_of_images(3, 9, 14, 2)
    maps = random_maps(3, 2)
    weight = np.random.RandomState(2).normal(size=(3, 9, 14, 4))
    variable = tf.constant(maps)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = tf.reduce_sum(sampled(images, variable) * weight.astype(np.float32))
    gradient = tape.gradient(value, variable).numpy()
    # Differences of the reference in float64, so small that no pixel changes cell.
    numeric, step = np.zeros(maps.shape), 1e-7
    for place in np.ndindex(*maps.shape):
        ends = []
        for sign in (1, -1):
            moved = maps.astype(np.float64)
            moved[place] += sign * step
            ends.append((reference(images, moved) * weight).sum())
        numeric[place] = (ends[0] - ends[1]) / (2 * step)
    assert np.abs(numeric).min() > 0
    np.testing.assert_allclose(gradient, numeric, rtol=2e-3, atol=2e-3)


def test_gradient_of_the_images_is_the_transposed_map():
    # Sampling is linear in the images: <w, S v> must equal <gradient of <w, S x>, v>.
    images, maps = tf.constant(batch_of_images(2, 7, 9, 2)), random_maps(2, 2)
    weight = np.random.RandomState(3).normal(size=(2, 7, 9, 4)).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(images)
        table = resampling.neighbour_table(images)
        value = tf.reduce_sum(weight * resampling.affine_sample(table, maps, 7, 9))
    gradient = tape.gradient(value, images).numpy()
    other = batch_of_images(2, 7, 9, 2, seed=4)
    np.testing.assert_allclose(
        (gradient * other).sum(), (weight * reference(other, maps)).sum(), rtol=1e-3
    )

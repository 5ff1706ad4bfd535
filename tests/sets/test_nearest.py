"""The search for the nearest member, where the nearest one is known."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import gaussian_filter

import lps_tf as lps
from lps_tf.sets import parametric


@pytest.fixture(scope="module")
def letters():
    """An L, soft as a digit is, in eight widths."""
    x = np.zeros((8, 24, 24, 1), np.float32)
    for i, image in enumerate(x):
        image[6:18, 8:11] = 1.0
        image[15:18, 8 : 12 + i] = 1.0
    return gaussian_filter(x, (0, 0.7, 0.7, 0))


def test_it_finds_the_parameters_of_a_transformation(letters):
    formula = parametric.Affine(
        letters.shape[1:], rotation=45, translation=4, scale=0.3, radius=2.0
    )
    u = np.random.RandomState(0).uniform(-0.8, 0.8, (len(letters), 4))
    found = lps.quality.nearest(
        formula, letters, formula.perturb(letters, u), starts=12
    )
    expected = formula.parameters(tf.constant(u, tf.float32))
    close = {"rotation": 2.0, "down": 0.25, "right": 0.25, "scale": 0.02}
    for name, value in formula.parameters(found.u).items():
        assert np.median(np.abs(value - expected[name])) < close[name], name
    # Zero but for the last steps' length; a letter and its version differ by far more.
    assert np.median(found.error) < 1e-4
    error = np.square(found.members - formula.perturb(letters, u)).mean((1, 2, 3))
    np.testing.assert_allclose(found.error, error, rtol=1e-4, atol=1e-8)


def test_in_a_pixel_ball_it_is_the_projection(images):
    ball = parametric.L2(images.shape[1:], radius=0.5)
    target = np.clip(images + 0.1 * np.sign(0.5 - images), 0, 1)
    found = lps.quality.nearest(ball, images, target, starts=2, steps=40)
    apart = (target - images).reshape(len(images), -1)
    norms = np.linalg.norm(apart, axis=1)
    assert (norms > 0.5).all()
    expected = (norms - 0.5) ** 2 / apart.shape[1]
    np.testing.assert_allclose(found.error, expected, rtol=0.02)


def test_it_goes_on_from_the_encoder_and_never_ends_above_it(tiny_set, images):
    target = np.roll(images, 1, 2)
    inside = lps.latent.project(tiny_set.encode(images, target), tiny_set.radius)
    encoded = np.square(tiny_set.perturb(images, inside) - target).mean((1, 2, 3))
    found = lps.quality.nearest(tiny_set, images, target, starts=3, steps=10)
    assert (found.error.numpy() <= encoded + 1e-7).all()
    assert found.error.numpy().mean() < encoded.mean()
    assert (lps.latent.norm(found.u).numpy() <= tiny_set.radius + 1e-5).all()


def test_other_shapes_and_numbers_are_refused(tiny_set, images):
    with pytest.raises(ValueError, match=r"`x` and `images`|same shape"):
        lps.quality.nearest(tiny_set, images, images[:2])
    with pytest.raises(ValueError, match="`starts`"):
        lps.quality.nearest(tiny_set, images, images, starts=0)
    with pytest.raises(ValueError, match="no radius"):
        lps.quality.nearest(
            lps.PerturbationSet.from_network(
                "mnist_stn", latent_dim=2, transformers=1, localisation=(4,)
            ),
            images,
            images,
        )

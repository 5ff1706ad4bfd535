"""The attack on a smoothed classifier."""

import numpy as np
import tensorflow as tf

import lps_tf as lps
from tests.perturbations import attack_reference as reference

SEED = tf.constant([3, 4])


def test_views_are_noises_around_one_point_of_the_ball():
    # Logits are linear and never wrong, so the worst point is known.
    slope = tf.constant([[1.0, 2.0, -2.0, 0.0]]) / 3

    def linear(u, training=False):
        margin = tf.reduce_sum(slope * u, 1)
        return tf.stack([12 - margin, margin], 1)

    x, y = np.zeros((2000, 1, 1, 1), np.float32), np.zeros(2000, np.int64)
    attack = lps.SmoothedPGD(
        reference.Latents(), 0.7, radius=1.5, steps=60, num_samples=3
    )
    noise = attack(linear, x, y, SEED).numpy() - 1.5 * slope.numpy()
    assert noise.shape == (3, 2000, 4)
    # One point of each example under all views: no part of the noise is shared.
    assert np.abs(np.corrcoef(noise.reshape(3, -1)) - np.eye(3)).max() < 0.05
    np.testing.assert_allclose(noise.std((1, 2)), 0.7, rtol=0.03)
    np.testing.assert_allclose(noise.mean((0, 1)), 0, atol=0.04)


def test_smoothed_attack_ascends_on_the_mean_probability():
    rows, sigma, radius, steps, pset = 30, 0.6, 1.0, 5, reference.Latents()
    random = np.random.RandomState(0)
    inner, outer = random.normal(size=(4, 8)), random.normal(size=(8, 3))

    def classify(u, training=False):
        hidden = tf.tanh(tf.cast(u, tf.float64) @ inner)
        return tf.cast(3 * hidden @ outer, tf.float32)

    x = np.zeros((rows, 1, 1, 1), np.float32)
    y = np.full(rows, classify(np.zeros((1, 4))).numpy().argmax())

    def views(radius, relative_step=0.2):
        attack = lps.SmoothedPGD(
            pset, sigma, radius=radius, steps=steps, relative_step=relative_step
        )
        return attack(classify, x, y, SEED).numpy().astype(np.float64)

    noise = views(1e-9)  # in a ball this small, nothing but the noise is left
    first = (views(radius, 1e-9) - noise)[0]  # without a step, where it starts

    def probabilities(u, noise):
        logits = 3 * np.tanh((u + noise) @ inner) @ outer
        p = np.exp(logits - logits.max(-1, keepdims=True))
        return (p / p.sum(-1, keepdims=True)).mean(0)

    misclassified = 0
    for row, found in enumerate((views(radius) - noise)[0]):
        u = first[row]
        for _ in range(steps):
            wrong = probabilities(u, noise[:, row]).argmax() != y[row]
            if wrong:
                break
            gradient = [
                np.log(probabilities(u - h, noise[:, row])[y[row]])
                - np.log(probabilities(u + h, noise[:, row])[y[row]])
                for h in 1e-5 * np.eye(4)
            ]
            step = 0.2 * radius * reference.unit(np.array(gradient))
            u = reference.project(u + step, radius)
        misclassified += wrong
        np.testing.assert_allclose(found, u, atol=1e-3)
    assert 0 < misclassified < rows
    np.testing.assert_allclose(*(views(radius) - noise), atol=1e-5)

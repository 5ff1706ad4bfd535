"""No attack on the smoothed classifier undoes a certificate."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import lps_tf as lps
from lps_tf.sets import latent

SIGMA, RADIUS, ALPHA = 0.6, 0.5, 1e-3


@pytest.fixture(scope="module")
def certified(tiny_set):
    """A classifier, images, and the classes certified within the radius; -1 if not."""
    keras.utils.set_random_seed(0)
    base = lps.networks.classifiers.small_cnn((12, 12, 1), 3, filters=(4,), units=8)
    x = np.random.default_rng(2).uniform(size=(20, 12, 12, 1)).astype(np.float32)
    # Of the small weights it starts with, the classes are about as likely everywhere.
    centres = tiny_set.perturb(x, tf.zeros((20, 4)))
    base.layers[-1].bias.assign_sub(tf.reduce_mean(base(centres), 0))
    smoothed = lps.SmoothedClassifier(base, tiny_set, SIGMA)
    found = smoothed.certify(x, 100, 2000, ALPHA, target_radius=RADIUS, verbose=False)
    return base, x, found.prediction


def attacked(pset, base, x, y, radius):
    """The latents that a strong attack on the smoothed classifier finds."""
    attack = lps.SmoothedPGD(
        pset, SIGMA, radius=radius, steps=15, relative_step=0.2, num_samples=8
    )
    conditioned = pset.condition(x)
    noise = SIGMA * tf.random.stateless_normal((8, len(x), 4), [3, 4])
    seed = tf.constant([0, 1])
    return attack.find(base, conditioned, tf.constant(y), seed, {"noise": noise})


def changed(pset, base, x, y, u, draws=500):
    """Whether the smoothed answer at u is, beyond doubt, another than y."""
    conditioned = pset.condition(x)

    @tf.function(jit_compile=True)
    def answers(key):
        noise = SIGMA * latent.standard_normal((len(x), 4), key)
        return tf.argmax(base(pset.decode(conditioned, u + noise)), -1)

    drawn = np.stack([answers(tf.constant([7, k])).numpy() for k in range(draws)])
    counts = np.stack([(drawn == c).sum(0) for c in range(3)], 1)
    right = counts[np.arange(len(y)), y]
    others = counts.copy()
    others[np.arange(len(y)), y] = 0
    rival = others.max(1)
    # Were y at least as likely, so many draws of the rival would be this unlikely.
    p = scipy.stats.binom.sf(rival - 1, rival + right, 0.5)
    return p < 1e-6


@pytest.mark.slow
def test_inside_of_the_radius_the_smoothed_answer_stays(tiny_set, certified):
    base, x, prediction = certified
    sure = prediction >= 0
    assert 5 <= sure.sum() <= 18  # some are not: the radius asks something of them
    x, y = x[sure], prediction[sure]
    u = attacked(tiny_set, base, x, y, RADIUS)
    assert (np.linalg.norm(u, axis=1) <= RADIUS * (1 + 1e-5)).all()
    # Each certificate is wrong with probability alpha at most.
    most = scipy.stats.binom.ppf(0.999, len(y), ALPHA)
    assert changed(tiny_set, base, x, y, u).sum() <= most


@pytest.mark.slow
def test_the_attack_is_one_that_finds_changes_where_there_are_some(tiny_set, certified):
    base, x, prediction = certified
    sure = prediction >= 0
    x, y = x[sure], prediction[sure]
    u = attacked(tiny_set, base, x, y, 6 * RADIUS)
    assert changed(tiny_set, base, x, y, u).mean() >= 0.2
    # A random point of that norm seldom does.
    random = latent.unit(tf.random.stateless_normal(u.shape, [5, 6])) * 6 * RADIUS
    found = changed(tiny_set, base, x, y, random).mean()
    assert found < changed(tiny_set, base, x, y, u).mean()

"""Objectives against the formulas of their papers, written in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

import lps_tf as lps
from lps_tf.robustness import objectives

BATCH, CLASSES = 5, 4


def logits(seed, shape=()):
    return np.random.RandomState(seed).normal(0, 2, (BATCH, *shape, CLASSES))


def cross_entropy(y, z):
    return -np.take_along_axis(log_softmax(z, -1), y[..., None], -1)[..., 0]


def divergence(p, q):
    return (p * (np.log(p) - np.log(q))).sum(-1)


def pixel_mean(values):
    return values.reshape(len(values), -1).mean(1)


def trades(y, clean, views):
    p = softmax(clean, -1)
    moved = np.mean([divergence(p, softmax(v, -1)) for v in views], 0)
    return pixel_mean(cross_entropy(y, clean) + 6 * moved)


def mart(y, clean, views):
    p = softmax(clean, -1)
    p_label = np.take_along_axis(p, y[..., None], -1)[..., 0]
    losses = []
    for view in views:
        q = softmax(view, -1)
        others = q.copy()
        np.put_along_axis(others, y[..., None], 0, -1)
        losses.append(
            cross_entropy(y, view)
            - np.log(1.0001 - others.max(-1))
            + 5 * (1 - p_label) * divergence(p, q)
        )
    return pixel_mean(np.mean(losses, 0))


def consistency(y, clean, views):
    mean = np.mean([softmax(v, -1) for v in views], 0)
    losses = [
        cross_entropy(y, v) + 10 * divergence(mean, softmax(v, -1)) for v in views
    ]
    return pixel_mean(np.mean(losses, 0) - 0.5 * (mean * np.log(mean)).sum(-1))


def perturbed(y, clean, views):
    return pixel_mean(np.mean([cross_entropy(y, v) for v in views], 0))


def worst(y, clean, views):
    each = [pixel_mean(cross_entropy(y, z)) for z in (clean, *views)]
    return np.max(each, 0)


def cvar(y, clean, views):
    # A quarter of three samples is less than one of them: the largest.
    return np.max([pixel_mean(cross_entropy(y, v)) for v in views], 0)


def jensen_shannon(y, clean, views):
    p = softmax(np.stack([clean, *views]), -1)
    divergences = [entropy(each, p.mean(0), axis=-1) for each in p]
    return pixel_mean(cross_entropy(y, clean) + 12 * np.mean(divergences, 0))


FORMULAS = {
    "CVaR": cvar,
    "PerturbedLoss": perturbed,
    "WorstLoss": worst,
    "Trades": trades,
    "Mart": mart,
    "Consistency": consistency,
    "JensenShannon": jensen_shannon,
}


@pytest.mark.parametrize("shape", [(), (2, 3)], ids=["classifier", "segmenter"])
@pytest.mark.parametrize(
    "name, views",
    [(name, 3) for name in FORMULAS] + [("Trades", 1), ("Mart", 1), ("WorstLoss", 1)],
)
def test_each_is_its_formula(name, views, shape):
    y = np.random.RandomState(9).randint(0, CLASSES, (BATCH, *shape))
    clean = logits(0, shape)
    others = np.stack([logits(1 + i, shape) for i in range(views)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    batch = objectives.Predictions(
        tf.constant(y),
        tf.constant(clean, tf.float32),
        tf.constant(others, tf.float32),
        objectives.prediction_weights(tf.constant(y)),
    )
    found = getattr(objectives, name)()(loss.call, batch)
    assert found.shape == (BATCH,)
    np.testing.assert_allclose(found, FORMULAS[name](y, clean, others), rtol=1e-4)


@pytest.mark.parametrize("name", FORMULAS)
def test_gradients_stay_finite_where_the_classifier_is_certain(name):
    y = tf.constant([0, 0])
    sure = tf.constant([[80.0, -80, 0, 0], [-80, 80, 0, 0]])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True).call
    with tf.GradientTape() as tape:
        tape.watch(sure)
        views = tf.stack([sure[::-1], sure])
        batch = objectives.Predictions(y, sure, views, tf.ones(2))
        value = getattr(objectives, name)()(loss, batch)
    assert np.isfinite(value.numpy()).all()
    assert np.isfinite(tape.gradient(value, sure).numpy()).all()


def test_of_one_version_it_is_the_jensen_shannon_distance_squared():
    clean, view = logits(0), logits(1)
    found = objectives.JensenShannon(weight=3)(
        lambda y, z: tf.zeros(BATCH),
        objectives.Predictions(
            tf.zeros(BATCH, tf.int64),
            tf.constant(clean, tf.float32),
            tf.constant(view[None], tf.float32),
            tf.ones(BATCH),
        ),
    )
    distance = jensenshannon(softmax(clean, -1), softmax(view, -1), axis=-1)
    np.testing.assert_allclose(found, 3 * distance**2, rtol=1e-4)


def fixed_losses(losses):
    """A loss and a batch that have these losses, (samples, batch)."""

    def loss(y, sample):
        return sample[..., 0]

    samples = tf.constant(losses, tf.float32)[..., None]
    ones = tf.ones(samples.shape[1])
    return loss, objectives.Predictions(tf.zeros(5, tf.int64), None, samples, ones)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.33, 0.5, 0.9, 1])
def test_cvar_of_fixed_losses(share):
    losses = np.random.default_rng(0).exponential(size=(10, 5))
    found = objectives.CVaR(share)(*fixed_losses(losses))
    # As the least t + mean of what exceeds t, over the share (Rockafellar and Uryasev);
    # it is reached at one of the losses. Of less than one loss, it is the largest.
    at_least = max(share, 0.1)
    excess = np.maximum(losses[None] - losses[:, None], 0).mean(1)
    expected = (losses + excess / at_least).min(0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_cvar_lies_between_the_mean_and_the_largest():
    losses = np.random.default_rng(1).exponential(size=(8, 5))
    values = [objectives.CVaR(s)(*fixed_losses(losses)) for s in (0.125, 0.3, 0.7, 1)]
    np.testing.assert_allclose(values[0], losses.max(0), rtol=1e-6)
    np.testing.assert_allclose(values[-1], losses.mean(0), rtol=1e-6)
    assert (np.diff(values, axis=0) < 0).all()
    loss, batch = fixed_losses(losses)
    mean = objectives.PerturbedLoss()(loss, batch)
    np.testing.assert_allclose(values[-1], mean, rtol=1e-6)


@pytest.mark.slow
def test_cvar_trains_on_several_members(tiny_set, images, labels):
    keras.utils.set_random_seed(0)
    model = lps.networks.classifiers.small_cnn((12, 12, 1), 3, filters=(4,), units=8)
    members = lps.LatentAugmentation(tiny_set, num_samples=4)
    drawn = members(model, images, labels)
    assert drawn.shape == (4, *images.shape)
    assert np.abs(np.diff(drawn, axis=0)).max((1, 2, 3, 4)).min() > 0
    robust = lps.RobustClassifier(model, members, objective=objectives.CVaR(0.5))
    robust.compile(keras.optimizers.Adam(1e-2))
    history = robust.fit(images, labels, epochs=12, batch_size=6, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    # The mean over the worse half of the samples is above that over all of them.
    assert (np.array(history["loss"]) >= np.array(history["robust_loss"])).all()


def test_what_is_the_same_diverges_nowhere():
    y, z = tf.constant([0, 1, 2, 3, 0]), tf.constant(logits(0), tf.float32)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True).call
    plain = loss(y, z)
    batch = objectives.Predictions(y, z, z[None], tf.ones(5))
    for objective in (objectives.Trades(), objectives.WorstLoss()):
        np.testing.assert_allclose(objective(loss, batch), plain, rtol=1e-6)


def test_errors():
    for build in (objectives.Trades, objectives.Mart):
        with pytest.raises(ValueError, match="`beta` must be positive"):
            build(beta=0)
    with pytest.raises(ValueError, match="`entropy` must be positive"):
        objectives.Consistency(entropy=-1)
    for share in (0, 1.5, -0.1):
        with pytest.raises(ValueError, match="`share` must be"):
            objectives.CVaR(share)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True).call
    one = tf.zeros((1, BATCH, CLASSES))
    y = tf.zeros(BATCH, tf.int64)
    batch = objectives.Predictions(y, None, one, tf.ones(BATCH))
    with pytest.raises(ValueError, match=r"several, such as .LatentNoise.*1 sample"):
        objectives.Consistency()(loss, batch)
    with pytest.raises(ValueError, match=r"CVaR compares samples"):
        objectives.CVaR()(loss, batch)
    classifier = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()])
    with pytest.raises(ValueError, match="give a `perturbation` too"):
        lps.RobustClassifier(classifier, None, objectives.Trades())

"""Objectives against the formulas of their papers, written in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, softmax

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


FORMULAS = {
    "PerturbedLoss": perturbed,
    "WorstLoss": worst,
    "Trades": trades,
    "Mart": mart,
    "Consistency": consistency,
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
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True).call
    one = tf.zeros((1, BATCH, CLASSES))
    y = tf.zeros(BATCH, tf.int64)
    batch = objectives.Predictions(y, None, one, tf.ones(BATCH))
    with pytest.raises(ValueError, match=r"several, such as .LatentNoise.*1 sample"):
        objectives.Consistency()(loss, batch)
    classifier = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()])
    with pytest.raises(ValueError, match="give a `perturbation` too"):
        lps.RobustClassifier(classifier, None, objectives.Trades())

"""Small models to train on two replicas, and on one device what they should come to.

There, each half of a batch gets the random draws of its replica. A half that a whole
batch has no need of, that of batch norm, gets statistics of its own.
"""

from unittest import mock

import keras
import numpy as np
import tensorflow as tf

import lps_tf as lps
from lps_tf.networks.classifiers import small_cnn
from lps_tf.sets import latent

EPOCHS, BATCH = 2, 8
# The last batch has 3 examples: two for the first replica, one for the other.
IMAGES = np.random.RandomState(0).uniform(size=(19, 12, 12, 1)).astype(np.float32)
PERTURBED = np.roll(IMAGES, 1, 2)
LABELS = np.arange(len(IMAGES)) % 3

SETS = ["mnist_fc", "mnist_stn"]
CLASSIFIERS = ["plain", "augmentation", "attack"]


def data(case, shuffled=False):
    targets = PERTURBED if case in SETS else LABELS
    examples = tf.data.Dataset.from_tensor_slices((IMAGES, targets))
    if shuffled:
        examples = examples.shuffle(len(IMAGES), seed=0)
    return examples.batch(BATCH)


def model(case, alone=False):
    """A model that is built and compiled; `alone` on one device, as two would be."""
    keras.utils.set_random_seed(0)
    return (_set if case in SETS else _classifier)(case, alone)


def keras_fit(model, case):
    pairs = data(case)
    return model.fit(pairs, validation_data=pairs, epochs=EPOCHS, verbose=0).history


def assert_same_training(case, history, weights, fit=keras_fit):
    """Compares with what `fit` makes of it on one device.

    Float32 sums come in another order: logs may differ by 1e-5 of their values, each
    weight by 1e-3 of how far it went.
    """
    alone = model(case, alone=True)
    start = alone.get_weights()
    expected = fit(alone, case)
    assert set(history) == set(expected)
    for name, values in expected.items():
        # Halves move averages of batch norm twice in a step, and `HalvesOf` leaves
        # clean images in validation too: one device's validation is another.
        if name.startswith("val_") and case in ("mnist_stn", "attack"):
            continue
        np.testing.assert_allclose(
            history[name], values, rtol=1e-5, atol=1e-5, err_msg=name
        )
    furthest = 0.0
    for variable, before, found in zip(alone.weights, start, weights, strict=True):
        if "moving" in variable.path:  # of batch norm
            continue
        moved = np.abs(variable.numpy() - before).max()
        assert np.abs(variable.numpy() - found).max() <= 1e-3 * moved + 1e-7
        if variable.trainable:
            furthest = max(furthest, moved)
    assert furthest > 1e-3  # it did train


def _halves(batch):
    middle = (tf.shape(batch)[0] + 1) // 2
    return (0, slice(0, middle)), (1, slice(middle, None))


def _draw(distribution, seed):
    mean, std = distribution.mean(), distribution.stddev()
    noise = [
        latent.standard_normal(tf.shape(mean[half]), latent.fold_in(seed, replica))
        for replica, half in _halves(mean)
    ]
    return mean + std * tf.concat(noise, 0)


class _NoiseOfHalves(lps.PerturbationSet):
    """Draws for each half what its replica would."""

    def elbo_terms(self, x, x_perturbed, training=False, weight=None):
        with mock.patch.object(latent, "draw", _draw):
            return super().elbo_terms(x, x_perturbed, training, weight)


class _Halves(lps.PerturbationSet):
    """Treats each half as its replica would, batch norm included."""

    def elbo_terms(self, x, x_perturbed, training=False, weight=None):
        assert weight is None
        self._draws.assign_add(1)
        terms = []
        for self.replica, half in _halves(x):
            terms.append(super().elbo_terms(x[half], x_perturbed[half], training))
        return tuple(tf.concat(parts, 0) for parts in zip(*terms, strict=True))

    def next_key(self):
        seed = tf.stack([self.seed, self._draws.value])
        return latent.fold_in(seed, self.replica)


def _set(case, alone):
    if case == "mnist_fc":
        parts = lps.networks.NETWORKS[case](latent_dim=4, units=8)
        parts["likelihood"] = "optimal_gaussian"
        kind, rate = _NoiseOfHalves, 1e-3
    else:
        parts = lps.networks.NETWORKS[case](
            latent_dim=4, transformers=2, localisation=(8, 4)
        )
        kind, rate = _Halves, 1e-5
    pset = (kind if alone else lps.PerturbationSet)(**parts)
    pset.build((None, 12, 12, 1))
    beta = lps.schedules.PiecewiseLinear([0, 1], [0.2, 0.7])
    # Adam would make steps of equal length out of gradients that are rounding.
    pset.compile(keras.optimizers.SGD(rate), beta=beta, jit_compile=False)
    return pset


class HalvesOf:
    """Does to each half of a batch what a perturbation does on a replica."""

    num_samples = 1

    def __init__(self, perturbation, clean_fraction):
        self.perturbation = perturbation
        self.adversarial = perturbation.adversarial
        self.clean_fraction = clean_fraction

    def __call__(self, classifier, x, y, key=None):
        parts = []
        for replica, half in _halves(x):
            own = latent.fold_in(key, replica)
            images, labels = x[half], y[half]
            share = self.clean_fraction * tf.cast(tf.shape(images)[0], tf.float32)
            clean = tf.cast(share, tf.int32)
            rest = images[clean:], labels[clean:]
            perturbed = self.perturbation(classifier, *rest, own)
            parts += [images[:clean], perturbed]
        return tf.concat(parts, 0)


def a_set():
    """A perturbation set whose latents all show."""
    pset = lps.PerturbationSet.from_network(
        "mnist_stn", latent_dim=4, transformers=2, localisation=(8, 4)
    )
    pset.build((None, 12, 12, 1))
    random = np.random.RandomState(0)
    for weight in pset.trainable_variables:
        weight.assign_add(random.normal(0, 0.1, weight.shape))
    pset.radius = 2.0
    return pset


def _classifier(case, alone):
    pset = None if case == "plain" else a_set()
    classifier = small_cnn((12, 12, 1), 3, filters=(4,), units=8)
    perturbation, warmup, clean = None, 0, 0.0
    if case == "augmentation":
        perturbation = lps.LatentAugmentation(pset)
    if case == "attack":
        perturbation = lps.LatentPGD(pset, steps=2)
        warmup, clean = 1, 0.5
    if alone and perturbation:
        perturbation, clean = HalvesOf(perturbation, clean), 0.0
    robust = lps.RobustClassifier(
        classifier, perturbation, warmup_epochs=warmup, clean_fraction=clean
    )
    robust.build((None, 12, 12, 1))
    robust.compile(keras.optimizers.SGD(0.5), metrics=["accuracy", "mean_iou"])
    return robust

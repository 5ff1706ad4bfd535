"""A training that test_resume.py kills: its state is all that is left of it."""

import sys

import keras
import tensorflow as tf

import lps_tf as lps
from lps_tf.datasets.pipelines.on_the_fly import Split, pair_data
from lps_tf.networks.classifiers import small_cnn
from lps_tf.training.backup import Backup
from tests import halves

EPOCHS = 4


def data(kind):
    """A source of the package: shuffled, and with fresh draws in every pass."""
    split = Split(halves.IMAGES, halves.LABELS)

    def perturb(x, seed):
        noise = tf.random.stateless_uniform(tf.shape(x), seed, -0.3, 0.3)
        return tf.clip_by_value(x + noise, 0, 1)

    source = pair_data(
        "tiny",
        *(split, split, split),
        perturb,
        batch_size=8,
        limited=None,
        num_samples=1,
        group_size=1,
        seed=0,
    )
    return source.train_pairs if kind == "set" else source.train


def model(kind):
    keras.utils.set_random_seed(0)
    if kind == "set":
        pset = lps.PerturbationSet.from_network("mnist_fc", latent_dim=4, units=8)
        beta = lps.schedules.PiecewiseLinear([0, 3], [0, 1])
        rate = lps.schedules.PiecewiseLinear([0, 2, 4], [0, 1e-2, 0], 2)
        pset.build((None, 12, 12, 1))
        pset.compile(keras.optimizers.Adam(rate), beta=beta, jit_compile=False)
        return pset
    pset = halves.a_set()
    perturbation = {
        "augmentation": lambda: lps.LatentAugmentation(pset),
        "attack": lambda: lps.LatentPGD(pset, steps=2),
    }[kind]()
    small = small_cnn((12, 12, 1), 3, filters=(4,), units=8)
    # The random numbers of dropout have a place of their own.
    classifier = keras.Sequential([small, keras.layers.Dropout(0.2)])
    robust = lps.RobustClassifier(classifier, perturbation, warmup_epochs=1)
    robust.compile(keras.optimizers.Adam(1e-2))
    return robust


def fit(kind, *callbacks):
    trained = model(kind)
    history = trained.fit(
        data(kind), epochs=EPOCHS, verbose=0, callbacks=list(callbacks)
    )
    return trained, history.history


class Report(keras.callbacks.Callback):
    """Says when a batch is done, so that the test knows when to kill."""

    def on_train_batch_end(self, batch, logs=None):
        print("batch", flush=True)


if __name__ == "__main__":
    fit("set", Backup(sys.argv[1]), Report())

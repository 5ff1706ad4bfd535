"""The mixture of chains, against NumPy's draws of the papers' algorithm."""

import copy

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import lps_tf as lps
from lps_tf.perturbations.mixing import MixedChains

N = 4000


class Steps(MixedChains):
    """Each transformation adds a quarter: an image of zeros tells how many it had."""

    def _transformed(self, x, key):
        return x + 0.25


def test_mixtures_are_distributed_as_the_algorithm_has_them():
    x, y = tf.zeros((N, 1, 1, 1)), tf.zeros(N, tf.int64)
    found = Steps()(None, x, y, tf.constant([1, 2])).numpy()[..., 0, 0, 0]
    random = np.random.RandomState(0)
    depth = random.randint(1, 4, (N, 3))
    chains = (random.dirichlet([1, 1, 1], N) * depth / 4).sum(1)
    expected = (1 - random.beta(1, 1, N)) * chains
    for sample in found:
        assert scipy.stats.ks_2samp(sample, expected).pvalue > 0.01
    # The two versions of an image have nothing to do with each other.
    assert abs(np.corrcoef(found)[0, 1]) < 0.05


def test_every_image_of_a_chain_in_its_place():
    # Nothing is mixed into an image but what was made of the same image.
    x = np.linspace(0, 0.2, 10, dtype=np.float32).reshape(10, 1, 1, 1)
    found = Steps(num_samples=3)(None, x, np.zeros(10, int), tf.constant([1, 2]))
    added = (found - x).numpy()
    assert (added > 0).all() and (added < 0.75).all()


@pytest.mark.parametrize("kind", [lps.AugMix, lps.Prime])
def test_keys_of_its_own_go_on_and_copies_go_on_alike(kind):
    x, y = np.random.RandomState(0).rand(2, 16, 12, 3).astype(np.float32), np.zeros(2)
    one, other = kind(seed=1), kind(seed=1)
    first, again = one(None, x, y), other(None, x, y)
    np.testing.assert_array_equal(first, again)
    twin = copy.deepcopy(one)
    following = one(None, x, y)
    np.testing.assert_array_equal(following, twin(None, x, y))
    assert np.abs(following - first).max() > 1e-3
    key = tf.constant([1, 2])
    assert np.abs(kind(seed=2)(None, x, y, key) - one(None, x, y, key)).max() > 1e-3


def test_what_cannot_be_augmented_is_refused():
    x = np.zeros((2, 16, 16, 1), np.float32)
    with pytest.raises(ValueError, match=r"AugMix moves pixels.*shape \(2, 16, 16\)"):
        lps.AugMix()(None, x, np.zeros((2, 16, 16), int))
    with pytest.raises(ValueError, match=r"`num_samples` must be .*num_samples=0"):
        lps.Prime(num_samples=0)
    with pytest.raises(AttributeError, match="`seed` of a AugMix is fixed"):
        lps.AugMix().seed = 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", [lps.AugMix, lps.Prime])
def test_a_classifier_learns_with_it_and_the_jensen_shannon_loss(kind):
    random = np.random.RandomState(0)
    y = random.randint(0, 2, 64)
    # Class 0 is bright on the left, class 1 on the right.
    x = 0.3 * random.rand(64, 16, 16, 1)
    x[:, :, :8] += 0.6 * (y == 0)[:, None, None, None]
    x[:, :, 8:] += 0.6 * (y == 1)[:, None, None, None]
    model = lps.networks.classifiers.small_cnn((16, 16, 1), 2, filters=(4,), units=8)
    robust = lps.RobustClassifier(model, kind(), lps.objectives.JensenShannon())
    robust.compile(keras.optimizers.Adam(1e-2))
    history = robust.fit(x, y, epochs=12, batch_size=16, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert history["clean_accuracy"][-1] > 0.9
    # Equal data are augmented in the same way in each evaluation.
    first, again = (robust.evaluate(x, y, verbose=0, return_dict=True) for _ in "ab")
    assert first == again

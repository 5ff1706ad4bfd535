"""The optimizer is built before the first step, which is then traced once."""

import numpy as np
import pytest

import lps_tf as lps


def a_set():
    return lps.PerturbationSet.from_network(
        "mnist_stn", latent_dim=2, transformers=1, localisation=(4, 4)
    )


def a_classifier():
    classifier = lps.networks.classifiers.small_cnn((12, 12, 1), 3, filters=(4,))
    return lps.RobustClassifier(classifier)


@pytest.mark.parametrize("make, y_shape", [(a_set, (8, 12, 12, 1)), (a_classifier, 8)])
def test_the_first_step_is_traced_once(make, y_shape, monkeypatch):
    x = np.random.RandomState(0).rand(8, 12, 12, 1).astype(np.float32)
    y = np.zeros(y_shape, np.float32)
    traced = []
    step = type(make()).train_step

    def counted(self, data):
        traced.append(data)
        return step(self, data)

    monkeypatch.setattr(type(make()), "train_step", counted)
    model = make()
    model.compile("adam")
    model.fit(x, y, epochs=2, verbose=0)
    assert len(traced) == 1
    model = make()
    model.compile("adam")
    model.train_on_batch(x, y)
    assert len(traced) == 2


@pytest.mark.filterwarnings("ignore:The classifier has no trainable weights")
def test_what_was_frozen_at_first_can_be_trained_later():
    x = np.random.RandomState(0).rand(8, 12, 12, 1).astype(np.float32)
    model = a_classifier()
    model.compile("adam")
    model.classifier.trainable = False
    model.train_on_batch(x, np.zeros(8))
    before = model.classifier.get_weights()
    model.classifier.trainable = True
    model.make_train_function(force=True)
    model.train_on_batch(x, np.zeros(8))
    after = model.classifier.get_weights()
    assert all((a != b).any() for a, b in zip(before, after, strict=True))

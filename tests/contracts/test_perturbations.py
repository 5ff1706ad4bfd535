"""What any perturbation does: valid images, by its key, in a graph, under XLA."""

import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from lps_tf import perturbations
from tests.contracts.models import policy

KINDS = {
    "pgd": lambda pset: lps.LatentPGD(pset, steps=2),
    "apgd": lambda pset: lps.LatentAPGD(pset, steps=4, restarts=1),
    "auto_attack": lambda pset: lps.LatentAutoAttack(
        pset, steps=2, targets=1, num_queries=3
    ),
    "random": lambda pset: lps.RandomSearch(pset, num_samples=3),
    "smoothed": lambda pset: lps.SmoothedPGD(pset, 0.3, steps=2),
    "augmentation": lambda pset: lps.LatentAugmentation(pset),
    "noise": lambda pset: lps.LatentNoise(pset, 0.5),
    "augmix": lambda pset: lps.AugMix(num_samples=1),
    "prime": lambda pset: lps.Prime(),
}
KEY, OTHER = tf.constant([3, 4]), tf.constant([5, 6])


def all_but(fast):
    """Every kind, those of them slow that are not named."""
    marks = {name: () if name in fast else (pytest.mark.slow,) for name in KINDS}
    cases = [pytest.param(name, marks=mark) for name, mark in marks.items()]
    return pytest.mark.parametrize("name", cases)


def test_there_is_a_case_for_every_perturbation_of_an_image(tiny_set):
    given = {type(new(tiny_set)) for new in KINDS.values()}
    public = {getattr(lps, name) for name in perturbations.__all__}
    assert given == public - {lps.AttackResult, lps.RadiusSchedule, lps.WorstOfGroup}


@all_but(["pgd", "random", "augmentation", "noise", "augmix", "prime"])
def test_images_are_valid_others_than_given_and_decided_by_the_key(
    name, tiny_set, tiny_classifier, images, labels
):
    perturbation = KINDS[name](tiny_set)
    again = KINDS[name](tiny_set)
    found = perturbation(tiny_classifier, images, labels, KEY).numpy()
    assert found.dtype == np.float32
    assert found.shape[-4:] == images.shape
    assert found.min() >= 0 and found.max() <= 1 and np.abs(found - images).max() > 1e-3
    same = again(tiny_classifier, images, labels, KEY)
    np.testing.assert_array_equal(same, found)
    assert np.abs(again(tiny_classifier, images, labels, OTHER) - found).max() > 1e-4


@all_but(["augmentation", "noise"])
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_a_graph_is_traced_once_and_gives_what_a_call_gives(
    name, jit_compile, tiny_set, tiny_classifier, images, labels
):
    perturbation = KINDS[name](tiny_set)
    traces = []

    @tf.function(jit_compile=jit_compile, autograph=False)
    def perturb(x, y, key):
        traces.append(x.shape)
        return perturbation(tiny_classifier, x, y, key)

    x, y = tf.constant(images), tf.constant(labels)
    for key in (KEY, OTHER):
        expected = perturbation(tiny_classifier, images, labels, key)
        np.testing.assert_allclose(perturb(x, y, key), expected, atol=1e-4)
    assert len(traces) == 1


@all_but(["augmentation", "noise"])
def test_a_set_of_half_precision_gives_images_of_float32(
    name, tiny_set, tiny_classifier, images, labels
):
    with policy("mixed_bfloat16"):
        half = lps.PerturbationSet.from_config(tiny_set.get_config())
        half.build((None, *images.shape[1:]))
    half.set_weights(tiny_set.get_weights())
    found = KINDS[name](half)(tiny_classifier, images, labels, KEY)
    assert found.dtype == tf.float32 and np.isfinite(found).all()
    expected = KINDS[name](tiny_set)(tiny_classifier, images, labels, KEY)
    # Steps follow normalised gradients, so that single latents may part.
    assert np.abs(found - expected).mean() < 0.05


@all_but(["augmentation"])
def test_a_classifier_trains_on_it(name, tiny_set, images, labels):
    classifier = lps.networks.classifiers.small_cnn((12, 12, 1), 3, (4,), 8)
    before, set_before = classifier.get_weights(), tiny_set.get_weights()
    robust = lps.RobustClassifier(classifier, KINDS[name](tiny_set))
    robust.compile("sgd", jit_compile=False)
    history = robust.fit(images, labels, batch_size=3, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    after = classifier.get_weights()
    changes = [np.abs(a - b).max() for a, b in zip(before, after, strict=True)]
    assert max(changes) > 0
    for one, other in zip(set_before, tiny_set.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)

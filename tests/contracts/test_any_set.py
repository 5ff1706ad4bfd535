"""Any set does what its protocol says, and can be attacked and certified."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from lps_tf.sets import parametric
from lps_tf.sets.latent import unit
from lps_tf.sets.protocol import LatentSet, decode_compiled, set_compiles
from tests.contracts.any_sets import (
    CASES,
    fast,
    images,
    latents,
    new_classifier,
    own_set,
)
from tests.contracts.models import pictures


# Learned sets take longest to compile; `test_sets.py` and others have them as well.
@pytest.fixture(params=fast(*(name for name in CASES if "learned" not in name)))
def case(request):
    return CASES[request.param]


@pytest.fixture
def pset(case, tiny_set):
    return case.make(tiny_set)


# What takes a set sees the protocol alone: a few of each kind will do, because what is
# compiled for each stays in memory.
SEARCHED = ("own", "affine", "jitter", "linf", "formula, then learned")


@pytest.fixture(params=fast("own", "affine", among=SEARCHED))
def attacked(request):
    return CASES[request.param]


def test_there_is_a_case_for_every_parametric_set(tiny_set):
    kinds = {type(case.make(tiny_set)) for case in CASES.values()}
    assert kinds >= {getattr(parametric, name) for name in parametric.__all__}


# The set by itself.


def test_it_has_what_the_protocol_names(case, pset):
    assert isinstance(pset, LatentSet)
    assert len(pset.image_shape) == 3 and pset.image_shape[-1] == case.shape[-1]
    assert pset.radius > 0 and pset.latent_dim >= 1
    conditioned = pset.condition(images(case))
    for name in ("mean", "std"):
        assert getattr(conditioned, name).shape == (6, pset.latent_dim)
    for tensor in tf.nest.flatten(conditioned):
        assert tensor.shape[0] == 6


@pytest.mark.parametrize("scale", [0.5, 20.0])
def test_images_are_valid_and_of_float32_whatever_the_latent(case, pset, scale):
    x = images(case)
    found = pset.perturb(x, scale * latents(pset)).numpy()
    assert found.shape == x.shape and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    assert np.abs(found - x).max() > 1e-3


def test_the_middle_of_the_ball_is_the_image(case, pset):
    x = images(case)
    change = np.abs(pset.perturb(x, np.zeros((6, pset.latent_dim), "f4")) - x).max()
    if case.keeps:
        assert change < 1e-5
    else:
        assert change > 1e-2


def test_an_image_comes_out_the_same_in_any_batch(case, pset):
    x, u = images(case), latents(pset)
    found = pset.perturb(x, u)
    for n in (1, 4):
        np.testing.assert_allclose(pset.perturb(x[:n], u[:n]), found[:n], atol=1e-5)


def test_compiled_it_gives_the_same(case, pset):
    x, u = images(case), tf.constant(latents(pset))
    conditioned = pset.condition(x)
    assert set_compiles(pset, conditioned)
    expected = pset.decode(conditioned, u)
    np.testing.assert_allclose(
        decode_compiled(pset, conditioned, u), expected, atol=1e-5
    )
    graph = tf.function(lambda x, u: pset.decode(pset.condition(x), u))
    np.testing.assert_allclose(graph(tf.constant(x), u), expected, atol=1e-5)


def test_gradients_of_the_latent_are_those_of_differences(case, pset):
    x, u = images(case), 0.6 * pset.radius * unit(tf.constant(latents(pset)))
    conditioned = pset.condition(x)
    weight = pictures(6, case.shape, seed=3) - 0.5

    @tf.function
    def value(u):
        return tf.reduce_sum(weight * pset.decode(conditioned, u), (1, 2, 3))

    with tf.GradientTape() as tape:
        tape.watch(u)
        total = tf.reduce_sum(value(u))
    gradient = tape.gradient(total, u).numpy()
    # Bilinear sampling has kinks, which differences average over.
    step, dim = 2e-3, pset.latent_dim
    random = np.random.default_rng(0).normal(size=(dim, min(dim, 8)))
    directions = np.linalg.qr(random)[0].T.astype(np.float32)
    numeric = np.stack(
        [(value(u + step * d) - value(u - step * d)) / (2 * step) for d in directions]
    )
    analytic = directions @ gradient.T  # (directions, 6)
    assert np.linalg.norm(numeric) > 1e-2
    assert np.linalg.norm(analytic - numeric) < 0.1 * np.linalg.norm(numeric)


def test_the_digest_is_its_own_and_changes_with_the_set(case, tiny_set):
    one, again, other = (
        make(tiny_set).digest() for make in (case.make, case.make, case.other)
    )
    assert one == again and one != other
    assert isinstance(one, str)


def test_a_set_that_cannot_be_hashed_is_refused_by_name():
    kind = dataclasses.make_dataclass("Dim", [("by", float)], bases=(type(own_set()),))
    classifier = new_classifier(CASES["own"])
    for make in (
        lambda pset: lps.LatentPGD(pset),
        lambda pset: lps.LatentNoise(pset, 0.5),
        lambda pset: lps.SmoothedClassifier(classifier, pset, 0.5),
    ):
        with pytest.raises(ValueError, match=r"must be hashable.*eq=False.*by=0.5"):
            make(kind(0.5))


# What takes it.


def test_noise_and_augmentation_give_valid_images_by_their_key(attacked, tiny_set):
    case, pset = attacked, attacked.make(tiny_set)
    x, key = images(case), tf.constant([3, 4])
    for new in (lps.LatentAugmentation, lambda pset: lps.LatentNoise(pset, 0.5)):
        found, again, other = (
            new(pset)(None, x, None, k).numpy() for k in (key, key, key + 1)
        )
        assert found.shape == x.shape and found.min() >= 0 and found.max() <= 1
        np.testing.assert_array_equal(found, again)
        assert np.abs(found - other).max() > 1e-4


def test_an_attack_stays_in_the_ball_and_raises_the_loss(attacked, tiny_set):
    case, pset = attacked, attacked.make(tiny_set)
    x, y, classifier = images(case), np.arange(6) % 3, new_classifier(case)
    attack = lps.LatentPGD(pset, steps=4)
    found = attack.run(classifier, x, y)
    length = np.linalg.norm(found.u[0], axis=-1)
    assert (length <= pset.radius * (1 + 1e-5)).all()
    assert (length > 0)[~found.success[0]].all()
    worst = pset.perturb(x, found.u[0])
    losses = keras.losses.SparseCategoricalCrossentropy(True, reduction="none")
    moved = length > 0  # the others were misclassified as they were
    expected = losses(y, classifier(worst)).numpy()
    np.testing.assert_allclose(found.loss[0][moved], expected[moved], atol=1e-3)
    start = lps.RandomSearch(pset, num_samples=1).run(classifier, x, y)
    assert (found.loss[0] >= start.loss[0] - 1e-4).all()


def test_certificates_are_those_of_the_seed(attacked, tiny_set):
    case, pset = attacked, attacked.make(tiny_set)
    x, classifier = images(case), new_classifier(case)

    def certified(seed):
        smoothed = lps.SmoothedClassifier(
            classifier, pset, 0.3, batch_size=64, seed=seed
        )
        return smoothed.certify(x, n0=20, n=100, alpha=0.01, verbose=False)

    one, again = certified(0), certified(0)
    for a, b in zip(one[:4], again[:4], strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one.samples == 120).all() and (one.radius > 0).any()

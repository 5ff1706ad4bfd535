"""All that takes a set takes any: learned, of a formula, composed, or one's own."""

import dataclasses
import inspect
import textwrap
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from lps_tf.sets import parametric, protocol
from lps_tf.sets.latent import unit
from lps_tf.sets.protocol import LatentSet, decode_compiled, set_compiles
from tests.contracts.models import pictures

GREY, COLOUR = (12, 12, 1), (12, 12, 3)


def own_set(*_):
    """The example of the protocol's docstring, word for word."""
    text = inspect.getdoc(LatentSet).split("Example:\n")[1]
    names = dict(vars(protocol))
    exec(textwrap.dedent(text), names)
    return names["Dimmed"]()


def own_weaker_set(*_):
    class Weaker(type(own_set())):
        def digest(self):
            return "dimmed by a quarter"

    return Weaker()


def relearned(tiny_set):
    other = lps.PerturbationSet.from_config(tiny_set.get_config())
    other.build((None, *GREY))
    return other  # of fresh weights


class Case(NamedTuple):
    """How to make a set, and another one that perturbs differently."""

    make: Callable
    other: Callable
    keeps: bool = True  # whether u = 0 changes nothing
    shape: tuple = GREY


P = parametric
CASES = {
    "learned": Case(lambda tiny: tiny, relearned, keeps=False),
    "own": Case(own_set, own_weaker_set),
    "affine": Case(
        lambda _: P.Affine(GREY, rotation=30, translation=2, scale=0.2, shear=0.1),
        lambda _: P.Affine(GREY, rotation=30, translation=2, scale=0.2, shear=0.2),
    ),
    "rts": Case(
        lambda _: P.Affine(GREY, rotation=45, translation=3, scale=0.3, map="uniform"),
        lambda _: P.Affine(GREY, rotation=45, translation=3, scale=0.3),
    ),
    "lopsided": Case(
        lambda _: P.Affine(GREY, rotation=(0, 40)),
        lambda _: P.Affine(GREY, rotation=(0, 41)),
        keeps=False,
    ),
    "brightness": Case(
        lambda _: P.Brightness(GREY, 0.3), lambda _: P.Brightness(GREY, 0.2)
    ),
    "contrast": Case(lambda _: P.Contrast(GREY, 2), lambda _: P.Contrast(GREY, 3)),
    "jitter": Case(
        lambda _: P.ColourJitter(
            COLOUR, brightness=0.1, contrast=1.5, saturation=2, hue=40
        ),
        lambda _: P.ColourJitter(COLOUR, brightness=0.1, contrast=1.5, hue=40),
        shape=COLOUR,
    ),
    "blur": Case(
        lambda _: P.GaussianBlur(GREY, 1.2), lambda _: P.GaussianBlur(GREY, 1.0)
    ),
    "translation": Case(
        lambda _: P.Translation(GREY, 2), lambda _: P.Translation(GREY, 2, "wrap")
    ),
    "wrapped": Case(
        lambda _: P.Translation(GREY, 2, "wrap"), lambda _: P.Translation(GREY, 3)
    ),
    "l2": Case(lambda _: P.L2(GREY, 1.0), lambda _: P.Linf(GREY, 0.1, radius=1.0)),
    "linf": Case(lambda _: P.Linf(GREY, 0.2), lambda _: P.Linf(GREY, 0.1)),
    "composed": Case(
        lambda _: P.Compose(P.Affine(GREY, rotation=30), P.Brightness(GREY, 0.2)),
        lambda _: P.Compose(P.Affine(GREY, rotation=30), P.Brightness(GREY, 0.1)),
    ),
    "formula, then learned": Case(
        lambda tiny: P.Compose(P.Affine(GREY, rotation=30), tiny),
        lambda tiny: P.Compose(tiny, P.Affine(GREY, rotation=30)),
        keeps=False,
    ),
}


def fast(*names, among=tuple(CASES)):
    """All of some cases, those of them slow that are not named."""
    marks = {name: () if name in names else (pytest.mark.slow,) for name in among}
    return [pytest.param(name, marks=mark) for name, mark in marks.items()]


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


@pytest.fixture(params=fast("own", among=("own", "wrapped", "formula, then learned")))
def whole(request, tiny_set):
    """A set, images, labels of which the last is wrong, and a classifier."""
    case = CASES[request.param]
    x, classifier = images(case), new_classifier(case)
    y = np.argmax(classifier(x), -1)
    y[-1] = (y[-1] + 1) % 3
    return case.make(tiny_set), x, y, classifier


def new_classifier(case):
    keras.utils.set_random_seed(4)
    return lps.networks.classifiers.small_cnn(case.shape, 3, filters=(4,), units=8)


def images(case, n=6):
    return 0.2 + 0.6 * pictures(n, case.shape, seed=2)


def latents(pset, n=6, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, pset.latent_dim)).astype(np.float32)


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


def test_evaluations_and_smoothed_attacks_take_it(whole):
    pset, x, y, classifier = whole
    attacks = (lps.LatentAPGD(pset, steps=4), lps.RandomSearch(pset, num_samples=3))
    for attack in attacks:
        report = lps.evaluate_robustness(
            classifier, (x, y), attack, radii=[0.5, 1.0], verbose=False
        )
        assert report.rows["clean"].accuracy == pytest.approx(5 / 6)
        worst = [report.rows[f"attack/{r}"].accuracy for r in ("0.5", "1")]
        assert worst[1] <= worst[0] <= 5 / 6
    noisy = lps.SmoothedPGD(pset, 0.3, steps=2)(classifier, x, y)
    assert noisy.shape == (2, *x.shape)


@pytest.mark.slow
def test_sanity_checks_take_it(whole):
    pset, x, y, classifier = whole
    report = lps.sanity_checks(
        classifier, pset, x, y, radii=[pset.radius], steps=4, verbose=False
    )
    passed = {check.name: check.passed for check in report.checks}
    assert passed["what is found is in the ball and as bad as reported"]


def test_a_classifier_trains_on_it(whole):
    pset, x, y, classifier = whole
    digest = pset.digest()
    for perturbation in (
        lps.LatentPGD(pset, steps=2),
        lps.LatentAugmentation(pset),
        lps.LatentNoise(pset, 0.5, num_samples=2),
    ):
        robust = lps.RobustClassifier(classifier, perturbation)
        robust.compile("sgd")
        history = robust.fit(x, y, batch_size=3, verbose=0).history
        assert np.isfinite(history["loss"]).all()
    assert pset.digest() == digest


@pytest.mark.slow
def test_a_data_set_is_certified_in_it_and_the_classifier_exported(whole, tmp_path):
    pset, x, y, classifier = whole
    smoothed = lps.SmoothedClassifier(classifier, pset, 0.3, batch_size=50)
    report = lps.certify_dataset(
        smoothed, (x, y), tmp_path / "certified", n0=20, n=100, verbose=False
    )
    assert report.settings["perturbation_set"] == pset.digest()
    assert report.acr >= 0 and "average certified radius" in str(report)
    assert report.plot(tmp_path / "pictures")
    loaded = tf.saved_model.load(lps.export(smoothed, tmp_path / "smoothed"))
    alpha = tf.constant(1e-3, tf.float64)
    found = loaded.certify(tf.constant(x), 20, 100, alpha, 0)
    np.testing.assert_array_equal(found["prediction"], report.prediction)
    np.testing.assert_allclose(found["radius"], report.radius, rtol=1e-6)


def test_an_exported_set_does_the_same(whole, tmp_path):
    pset, x, _, _ = whole
    loaded = tf.saved_model.load(lps.export(pset, tmp_path / "set"))
    u = tf.constant(latents(pset))
    np.testing.assert_allclose(
        loaded.perturb(tf.constant(x), u), pset.perturb(x, u), atol=1e-5
    )
    assert float(loaded.radius()) == pytest.approx(pset.radius)
    sampled = loaded.sample(tf.constant(x), tf.constant(pset.radius), 3)
    assert sampled.shape == x.shape
    assert hasattr(loaded, "encode") == isinstance(pset, lps.PerturbationSet)

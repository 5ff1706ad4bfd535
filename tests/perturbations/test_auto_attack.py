"""AutoAttack against closed forms, its own parts, and the reference implementation."""

import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from lps_tf.perturbations.fab import LatentFAB
from lps_tf.perturbations.square import LatentSquare, shares
from lps_tf.sets import search as searching
from tests.robustness.pixel_ball import PixelBall, images, linear, pointwise

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
X = images(24)
SMALL = {"steps": 12, "targets": 2, "num_queries": 60}


class Unbounded(PixelBall):
    """x + u, not cut off: every distance to a linear boundary is known."""

    def decode(self, conditioned, u):
        return conditioned.features + tf.reshape(u, tf.shape(conditioned.features))


def distances(classifier, x, y):
    """To each image, the norm of the nearest misclassified change, or 0."""
    weights, bias = (w.astype(np.float64) for w in classifier.get_weights())
    logits = x.reshape(len(x), -1) @ weights + bias
    found = []
    for z, label in zip(logits, y, strict=True):
        others = np.delete(np.arange(len(z)), label)
        norms = np.linalg.norm(weights[:, others] - weights[:, [label]], axis=0)
        found.append(max(0, ((z[label] - z[others]) / norms).min()))
    return np.array(found)


def labelled(classifier, x):
    """What a classifier predicts, of each sixth image something else."""
    y = np.asarray(classifier(x)).argmax(1)
    y[::6] = (y[::6] + 1) % classifier.output_shape[-1]
    return y


@pytest.mark.parametrize("num_classes", [2, 4])
def test_fab_finds_the_nearest_point_beyond_a_linear_boundary(num_classes):
    classifier = linear(num_classes, seed=1)
    y = labelled(classifier, X)
    exact = distances(classifier, X, y)
    assert (exact[::6] == 0).all() and (exact > 0).sum() > 15
    attack = LatentFAB(Unbounded(), steps=40)
    nearest = exact[exact > 0].min()
    radii = np.geomspace(0.9 * nearest, 1.2 * exact.max(), 25)
    found = attack.run(classifier, X, y, radii, batch_size=24)
    # One search tells for all radii: none is missed, and none is found that is not.
    for radius, *result in zip(radii, *found, strict=True):
        _, success, u, _ = result
        assert success[radius > 1.02 * exact].all()
        assert not success[radius < 0.999 * exact].any()
        length = np.linalg.norm(u[success], axis=1)
        assert (length <= radius * (1 + 1e-5)).all()
        wrong = np.asarray(classifier(X + u.reshape(X.shape))).argmax(1) != y
        np.testing.assert_array_equal(wrong, success)


def test_square_stays_in_the_ball_and_never_loses_what_it_has():
    attack = LatentSquare(PixelBall(), num_queries=300)
    radius = np.linspace(0.2, 2, 24).astype(np.float32)
    goal = np.random.RandomState(0).normal(size=(24, 16)).astype(np.float32)
    state = attack.begin(tf.constant(goal[::-1].copy()), tf.constant(radius))
    np.testing.assert_allclose(np.linalg.norm(state["u"], axis=1), radius, rtol=1e-5)
    numbers = {"radius": tf.constant(radius), **attack.parameters()}
    best = [np.full(24, -np.inf)]
    for _ in range(301):
        value = tf.reduce_sum(goal * state["u"], 1)
        look = searching.Look(value, state["u"], value > np.inf, value)
        step = {"step": state["step"] + 1}
        state = {**state, **attack.rule(state, look, numbers), **step}
        assert (np.linalg.norm(state["u"], axis=1) <= radius * (1 + 1e-5)).all()
        best.append(state["best"].numpy())
        np.testing.assert_array_equal(best[-1], np.maximum(best[-2], value))
    # Nearly the maximum of a linear function, on the sphere.
    assert (best[-1] > 0.95 * radius * np.linalg.norm(goal, axis=1)).all()


def test_the_shares_of_square_are_those_of_the_paper():
    found = shares(10_000)
    at = {0: 1, 10: 1, 11: 2, 50: 2, 51: 4, 1000: 16, 1001: 32, 8001: 512, 10_000: 512}
    for query, halved in at.items():
        assert found[query] == pytest.approx(0.8 / halved)
    moves = LatentSquare(PixelBall(), num_queries=10_000).parameters()["moves"].numpy()
    np.testing.assert_allclose(np.linalg.norm(moves, axis=1) ** 2, 2 * found, rtol=1e-4)
    blocks = np.maximum(1, np.round(16 * found))
    np.testing.assert_array_equal((moves != 0).sum(1), blocks)


RADII = (0.1, 0.25)


@pytest.fixture(scope="module")
def case():
    classifier = linear(4, seed=1)
    return classifier, labelled(classifier, X)


def test_it_misclassifies_what_can_be_and_says_by_what(case):
    classifier, y = case
    exact = distances(classifier, X, y)
    radii = tuple(np.quantile(exact[exact > 0], [0.25, 0.75]))
    attack = lps.LatentAutoAttack(Unbounded(), steps=20, targets=3, num_queries=50)
    found = attack.run(classifier, X, y, radii, batch_size=10)
    for radius, *result in zip(radii, *found, strict=True):
        _, success, u, found_by = result
        np.testing.assert_array_equal(success, exact < radius)
        length = np.linalg.norm(u, axis=1)
        assert (length <= radius * (1 + 1e-5)).all()
        wrong = np.asarray(classifier(X + u.reshape(X.shape))).argmax(1) != y
        np.testing.assert_array_equal(wrong, success)
        np.testing.assert_array_equal(found_by == "clean", exact == 0)
        assert (found_by[success] != "").all()


@pytest.mark.slow
def test_it_finds_what_its_parts_find_and_each_works_on_what_is_left(case):
    classifier, y = case
    pset = PixelBall()
    attack = lps.LatentAutoAttack(pset, radius=RADII[-1], **SMALL)
    found = attack.run(classifier, X, y, RADII, batch_size=7)
    parts = [p.run(classifier, X, y, RADII) for p in attack.parts(y)]
    any_of_them = np.any([part.success for part in parts], 0)
    np.testing.assert_array_equal(found.success, any_of_them)
    first = np.argmax([part.success for part in parts], 0)
    for i, names in enumerate(found.found_by):
        for example in np.flatnonzero(any_of_them[i]):
            part = parts[first[i, example]]
            assert names[example] == part.found_by[i, example]
            u = part.u[i, example]
            np.testing.assert_allclose(found.u[i, example], u, atol=1e-5)
    held = ~any_of_them
    worst = np.max([part.loss for part in parts], 0)
    np.testing.assert_allclose(found.loss[held], worst[held], rtol=1e-4)
    # The first restart is what there is without others.
    more = lps.LatentAutoAttack(pset, radius=RADII[-1], restarts=2, **SMALL)
    more = more.run(classifier, X, y, RADII)
    assert (more.success >= found.success).all()
    assert (more.loss[~more.success] >= found.loss[~more.success] - 1e-5).all()


class Masked(keras.layers.Layer):
    """A classifier that no gradient passes through."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x, training=False):
        return self.inner(tf.stop_gradient(x))


@pytest.mark.slow
def test_where_gradients_are_masked_square_finds_it(case):
    classifier, y = case
    exact = distances(classifier, X, y)
    radius = 2 * float(np.median(exact))
    attack = lps.LatentAutoAttack(PixelBall(), steps=3, targets=1, num_queries=200)
    found = attack.run(Masked(classifier), X, y, [radius])
    # Random members may do, but steps from there lead nowhere.
    assert (found.found_by[0] == "Square").sum() > 6
    assert found.success[0][exact < 0.8 * radius].all()


@pytest.mark.slow
@pytest.mark.parametrize("num_classes", [1, 2, 3])
def test_few_classes_have_a_ratio_too(num_classes):
    classifier = linear(num_classes, seed=2)
    z = np.asarray(classifier(X))
    y = z.argmax(1) if num_classes > 1 else (z[:, 0] > 0).astype(np.int64)
    attack = lps.LatentAutoAttack(Unbounded(), steps=20, num_queries=50)
    if num_classes == 1:  # against a logit that is always 0
        weights, bias = classifier.get_weights()
        exact = np.abs(X.reshape(24, -1) @ weights + bias)[:, 0]
        exact /= np.linalg.norm(weights)
    else:
        exact = distances(classifier, X, y)
    radius = float(np.median(exact))
    found = attack.run(classifier, X, y, [radius])
    np.testing.assert_array_equal(found.success[0], exact < radius)


@pytest.mark.slow
def test_called_it_gives_the_worst_images_and_trains(case):
    classifier, y = case
    exact = distances(classifier, X, y)
    radius = float(np.median(exact))
    attack = lps.LatentAutoAttack(Unbounded(), radius=radius, **SMALL)
    images = attack(classifier, X, y, tf.constant([1, 2])).numpy()
    wrong = np.asarray(classifier(images)).argmax(1) != y
    np.testing.assert_array_equal(wrong, exact < radius)
    length = np.linalg.norm((images - X).reshape(24, -1), axis=1)
    assert (length <= radius * (1 + 1e-4)).all()


def test_a_segmenter_loses_nearly_as_many_pixels_as_a_ball_can_take():
    # Bright or dark, each pixel by itself: its distance is that to one half.
    model = pointwise(2)
    model.set_weights([np.float32([[[[0, 20]]]]), np.float32([0, -10])])
    y = (X[..., 0] > 0.5).astype(np.int64)
    y[0, 0] = -1  # void pixels are none to lose
    squared = (X[..., 0].astype(np.float64) - 0.5) ** 2 + np.where(y < 0, np.inf, 0)
    radius = 0.25
    in_order = np.cumsum(np.sort(squared.reshape(24, 16), 1), 1)
    possible = (in_order < radius**2).sum(1)
    pset = Unbounded()

    def lost(found):
        answers = np.asarray(model(pset.perturb(X, found.u[0]))).argmax(-1)
        return ((answers != y) & (y >= 0)).sum((1, 2))

    attack = lps.LatentAutoAttack(pset, radius=radius, steps=60)
    found = attack.run(model, X, y, ignore_class=-1)
    assert (lost(found) <= possible).all() and 0.2 < possible.mean() / 16 < 0.9
    assert lost(found).sum() > 0.8 * possible.sum()
    plain = lps.LatentAPGD(pset, radius=radius, steps=60)
    assert lost(found).sum() > lost(plain.run(model, X, y, ignore_class=-1)).sum()
    # The loss is the cross-entropy of what was found.
    losses = keras.losses.SparseCategoricalCrossentropy(
        True, ignore_class=-1, reduction=None
    )
    expected = losses(y, model(pset.perturb(X, found.u[0]))).numpy().sum((1, 2))
    np.testing.assert_allclose(found.loss[0], expected, rtol=1e-3)
    names = {"APGD-mask-CE", "APGD-balanced-CE", "APGD-JS"}
    assert {*found.found_by[0].tolist()} <= names
    report = lps.evaluate_robustness(
        model, (X, y), attack, ignore_class=-1, batch_size=24, verbose=False
    )
    row, pixels = report.rows["attack/0.25"], (y >= 0).sum((1, 2))
    assert row.accuracy == pytest.approx((1 - lost(found) / pixels).mean())
    assert row.mean_iou < report.rows["clean"].mean_iou == 1


@pytest.mark.slow
def test_a_report_tells_what_found_how_many(case):
    classifier, y = case
    report = lps.evaluate_robustness(
        classifier, (X, y), PixelBall(), RADII, limit=12, verbose=False
    )
    table = report.to_dict()["found_by"]
    assert list(table) == [f"attack/{radius}" for radius in RADII]
    for name, counts in table.items():
        assert sum(counts.values()) == round(12 * (1 - report.rows[name].accuracy))
        assert counts["clean"] == 2
    assert "found by" in str(report) and "APGD-CE" in str(report)


def reference_case():
    golden = np.load(GOLDEN / "auto_attack.npz")
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(8, 5, strides=2, activation="relu"),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10),
        ]
    )
    network.set_weights([golden[f"weight_{i}"] for i in range(8)])
    return network, golden


@pytest.mark.slow
def test_robust_accuracy_is_that_of_the_reference_implementation():
    network, golden = reference_case()
    manifest = json.loads((GOLDEN / "manifest.json").read_text())["auto_attack"]
    x, y = golden["x"].astype(np.float32) / 255, golden["y"]
    radius = manifest["radii"][1]
    pset = lps.sets.parametric.L2((28, 28, 1), radius)
    attack = lps.LatentAutoAttack(pset, num_queries=100)
    found = attack.run(network, x, y, batch_size=len(x))
    robust = golden["robust"][1, : len(x)]
    # Image by image, but for one.
    assert (found.success[0] == robust).sum() <= 1
    assert 0.2 < robust.mean() < 0.8

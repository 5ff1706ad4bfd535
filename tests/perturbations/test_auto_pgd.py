"""Auto-PGD against the published algorithm, and on objectives of known maximum."""

import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from lps_tf.perturbations import pgd
from lps_tf.sets import search as searching
from lps_tf.sets.protocol import Conditioned
from lps_tf.sets.search import Problem, search
from tests.perturbations import attack_reference as reference

STEPS, DIM = 100, 6
#: Worked out by hand: 0.22, then gaps of 0.19, 0.16, ..., 0.07 and 0.06 for ever.
MARKS = [0, 22, 41, 57, 70, 80, 87, 93, 99]


class Plain:
    """What a search needs of a set, for objectives of the latents alone."""

    latent_dim, image_shape, radius = DIM, (1, 1, DIM), None

    def decode(self, conditioned, u):
        return u


def normal(shape, seed=0):
    return np.random.RandomState(seed).normal(size=shape)


def test_checkpoints_are_those_of_the_paper():
    assert pgd.checkpoints(STEPS) == (MARKS[:-1], MARKS[1:])
    assert pgd.checkpoints(50)[1] == [11, 21, 29, 35, 40, 44, 47, 50]
    for steps in range(1, 12):  # those that would fall together are one
        before, marks = pgd.checkpoints(steps)
        assert before == [0, *marks[:-1]] and marks == sorted(set(marks))
        assert marks[0] >= 1 and marks[-1] <= steps


# Objectives that show what a rule gets wrong. Each is look(row, turn, u), and gives a
# value and a gradient. Values are rounded, so that float32 and float64 tie together.


def prescribed(kind):
    """Values and gradients that do not depend on u: comparisons alone decide."""
    random = np.random.RandomState(0)
    steps = random.normal(size=(12, STEPS + 1))
    if kind == "mostly rising":  # some of 12 examples pass a window, others do not
        steps += np.linspace(0.2, 1.6, 12)[:, None]
    values = steps if kind == "noise" else np.cumsum(steps, 1)
    if kind == "falls first":
        # Rises at almost every step, and never back to where it started.
        values = np.arange(STEPS + 1) * 0.01 * np.arange(1, 13)[:, None]
        values[:, 0] = 100
    gradients = random.normal(size=(12, STEPS + 1, DIM))
    return lambda row, turn, u: (values[row, turn], gradients[row, turn])


def quadratic(row, turn, u):
    # Outside of the ball; around a maximum inside, steps of one length are chaotic.
    weight, centre = np.geomspace(0.5, 3, DIM), 4 * normal((12, DIM))[row]
    return -(weight * (u - centre) ** 2).sum(), -2 * weight * (u - centre)


def kinks(row, turn, u):
    planes, offsets = normal((12, 5, DIM), 1)[row], normal((12, 5), 2)[row]
    side = planes @ u - offsets
    return -np.abs(side).sum(), -np.sign(side) @ planes


OBJECTIVES = {
    "noise": prescribed("noise"),
    "random walk": prescribed("random walk"),
    "mostly rising": prescribed("mostly rising"),
    "falls first": prescribed("falls first"),
    "quadratic": quadratic,
    "kinks": kinks,
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_rule_is_algorithm_1(name):
    def look(row, turn, u):
        value, gradient = OBJECTIVES[name](row, turn, np.asarray(u, np.float64))
        return np.round(value, 3), gradient

    attack = lps.LatentAPGD(Plain(), radius=1.0, steps=STEPS)
    radius = np.linspace(0.3, 3, 12).astype(np.float32)
    u = 0.3 * radius[:, None] * normal((12, DIM), 3)
    state = attack.begin(tf.constant(u, tf.float32), tf.constant(radius))
    numbers = {"radius": tf.constant(radius), **attack.parameters()}
    seen = []
    for turn in range(STEPS + 1):
        points = state["u"].numpy()
        seen.append(points)
        found = [look(row, turn, point) for row, point in enumerate(points)]
        value, gradient = (
            np.stack(part).astype(np.float32) for part in zip(*found, strict=True)
        )
        parts = (value, gradient, np.zeros(12, bool), value)
        new = attack.rule(state, searching.Look(*map(tf.constant, parts)), numbers)
        state = {**state, **new, "step": state["step"] + 1}

    class Look:
        wrong, turn = False, -1

        def __init__(self, row):
            self.row = row

        def __call__(self, u):
            self.turn += 1
            return look(self.row, self.turn, u)

    halved = []
    for row in range(12):
        expected, lengths = reference.auto_pgd(
            Look(row), u[row], float(radius[row]), STEPS, MARKS
        )
        np.testing.assert_allclose(
            [points[row] for points in seen], expected, atol=1e-4 * radius[row]
        )
        halved.append(np.log2(lengths[0] / lengths[-1]))
    assert max(halved) > 0
    np.testing.assert_allclose(state["length"], 2 * radius / 2.0 ** np.array(halved))


# Maxima that are known.


def maximise(attack, objective, starts, radius):
    """The best latents of one search of an objective that is never misclassified."""

    def never(problem, u):
        value = objective(u)
        return value, (value, tf.zeros_like(value, tf.bool))

    rows = len(starts)
    radius = tf.fill((rows,), radius)
    problem = Problem(
        attack.rule,
        never,
        attack.perturbation_set,
        None,
        Conditioned(tf.zeros((rows, DIM)), tf.ones((rows, DIM)), ()),
        tf.zeros(rows),
        {"radius": radius, **attack.parameters()},
        tf.constant(attack.steps + 1),
    )
    start = attack.begin(tf.constant(starts, tf.float32), radius)
    return search(problem, tf.constant(rows), start)["worst"].numpy()


def test_the_maximum_of_a_linear_objective_is_on_the_sphere():
    slope = normal((8, DIM), 1).astype(np.float32)
    attack = lps.LatentAPGD(Plain(), radius=1.5, steps=20)
    found = maximise(
        attack, lambda u: tf.reduce_sum(slope * u, 1), 0.3 * normal((8, DIM)), 1.5
    )
    expected = 1.5 * slope / np.linalg.norm(slope, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_maximum_of_a_quadratic_is_found_inside_and_on_the_border():
    centre = normal((8, DIM), 1)
    centre *= (np.linspace(0.1, 3, 8) / np.linalg.norm(centre, axis=1))[:, None]
    weight = tf.constant(np.geomspace(1, 4, DIM), tf.float32)
    inside = np.linalg.norm(centre, axis=1) < 1.5
    assert inside.any() and not inside.all()

    def objective(u):
        return -tf.reduce_sum(weight * (u - centre.astype(np.float32)) ** 2, 1)

    def gap(attack):
        found = maximise(attack, objective, 0.2 * normal((8, DIM)), 1.5)
        # On the border the gradient points outwards; inside it vanishes.
        gradient = weight * (centre - found)
        along = np.maximum(0, (gradient * found).numpy().sum(1)) / (found**2).sum(1)
        on_border = np.linalg.norm(found, axis=1) > 1.5 * (1 - 1e-5)
        rest = gradient - (on_border * along)[:, None] * found
        return np.linalg.norm(rest, axis=1)

    auto = gap(lps.LatentAPGD(Plain(), radius=1.5, steps=STEPS))
    assert auto.max() < 0.05
    # Steps of a fixed length run around the maximum that they cannot meet.
    fixed = gap(lps.LatentPGD(Plain(), radius=1.5, steps=STEPS))
    assert np.median(fixed[inside]) > 5 * np.median(auto[inside])


@pytest.fixture(scope="module")
def case():
    """A set, a classifier, images and what it answers."""
    pset, classifier = reference.small_set(), reference.small_classifier()
    x = np.random.RandomState(5).uniform(size=(64, 4, 4, 1)).astype(np.float32)
    return pset, classifier, x, classifier(x).numpy().argmax(1)


def test_it_beats_at_least_what_pgd_beats(case):
    pset, classifier, x, y = case
    radii = (0.5, 1.0, 1.5)
    pgd = lps.LatentPGD(pset, radius=1.0, steps=50, relative_step=0.05)
    pgd = pgd.run(classifier, x, y, radii)
    auto = lps.LatentAPGD(pset, radius=1.0).run(classifier, x, y, radii)
    assert (auto.success >= pgd.success).all()
    assert 0.2 < auto.success.mean() < 0.8
    held = ~auto.success
    assert (auto.loss[held] >= pgd.loss[held] - 1e-3).all()


@pytest.mark.slow
def test_certain_classifiers_do_not_hide_their_gradients_from_the_ratio(case):
    pset, classifier, x, y = case

    def certain(x, training=False):
        return 1e4 * classifier(x)

    def misclassified(attack, classifier):
        return attack.run(classifier, x, y).success.mean()

    auto = lps.LatentAPGD(pset, radius=1.0, steps=20)
    pgd = lps.LatentPGD(pset, radius=1.0, steps=20)
    assert abs(misclassified(auto, certain) - misclassified(auto, classifier)) < 0.05
    assert misclassified(pgd, certain) < 0.8 * misclassified(auto, certain)
    # In training too.
    found = classifier(auto(certain, x, y)).numpy().argmax(1) != y
    assert abs(found.mean() - misclassified(auto, classifier)) < 0.05

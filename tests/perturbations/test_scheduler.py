"""Attacks at full strength, `run` and `stream`, against one example at a time."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from lps_tf.perturbations import scheduler
from tests.perturbations import attack_reference as reference

RADII = (0.4, 1.0, 2.5)
IMAGES = 40


@pytest.fixture(scope="module")
def pset():
    return reference.small_set()


@pytest.fixture(scope="module")
def classifier():
    return reference.small_classifier()


@pytest.fixture(scope="module")
def data(classifier):
    """Numbers, images and labels; every eighth image is misclassified as it is."""
    x = np.random.RandomState(1).uniform(size=(IMAGES, 4, 4, 1)).astype(np.float32)
    y = classifier(x).numpy().argmax(1)
    y[::8] = (y[::8] + 1) % reference.CLASSES
    return np.arange(100, 100 + IMAGES), x, y


# Each attack of ours, how often it searches a ball, and one such search in NumPy.
STEPS = 20
MARKS = [0, 5, 9, 12, 14, 16, 18, 19, 20]  # 22%, 41%, 57%, ... of the steps, upwards


def pgd(pset, **kwargs):
    return lps.LatentPGD(pset, radius=1.0, steps=8, **kwargs)


def pgd_search(evaluate, u, radius, run):
    look = reference.Look(evaluate["cross-entropy"])
    reference.pgd(look, u, radius, 8, 0.2)
    return look


def auto_pgd_search(evaluate, u, radius, run):
    look = reference.Look(evaluate[("cross-entropy", "ratio")[run % 2]])
    reference.auto_pgd(look, u, radius, STEPS, MARKS)
    return look


def random_search(evaluate, u, radius, run):
    look = reference.Look(evaluate["cross-entropy"])
    look(u)
    return look


ATTACKS = {
    "pgd": (lambda pset: pgd(pset, restarts=2), 2, pgd_search),
    "auto_pgd": (
        lambda pset: lps.LatentAPGD(pset, radius=1.0, steps=STEPS, restarts=2),
        4,
        auto_pgd_search,
    ),
    "random": (
        lambda pset: lps.RandomSearch(pset, radius=1.0, num_samples=12),
        12,
        random_search,
    ),
}


def stacked(examples):
    """Loss, success and u as in an `AttackResult`, and the turns of each example."""
    loss, success, u, turns = zip(*examples, strict=True)
    return np.transpose(loss), np.transpose(success), np.swapaxes(u, 0, 1), turns


def one_by_one(data, runs, search, radii=RADII):
    def examples():
        for index, x, y in zip(*data, strict=True):
            evaluate = {
                kind: functools.partial(reference.evaluate, x, y, kind)
                for kind in ("cross-entropy", "ratio")
            }
            yield reference.attack(
                reference.clean(x, y),
                index,
                radii,
                runs,
                functools.partial(search, evaluate),
            )

    return stacked(examples())


def assert_same(result, expected, u_tolerance=2e-4):
    loss, success, u, *_ = expected
    np.testing.assert_array_equal(result.success, success)
    np.testing.assert_allclose(result.loss, loss, rtol=1e-3, atol=1e-4)
    # Of a misclassified example the path is short, and so are errors of rounding.
    np.testing.assert_allclose(result.u[success], u[success], atol=u_tolerance)


@pytest.mark.parametrize("name", ATTACKS)
def test_results_are_those_of_one_example_at_a_time(pset, classifier, data, name):
    make, runs, search = ATTACKS[name]
    expected = one_by_one(data, runs, search)
    rate = expected[1].mean(1)
    assert 0.2 < rate[0] < rate[1] < rate[2] < 1  # there is something to get wrong
    index, x, y = data
    result = make(pset).run(classifier, x, y, RADII, index, batch_size=8)
    assert_same(result, expected, 2e-2 if name == "auto_pgd" else 2e-4)
    norms = np.linalg.norm(result.u, axis=-1)
    assert (norms <= np.array(RADII)[:, None] * (1 + 1e-5)).all()
    assert result.loss.dtype == result.u.dtype == np.float32


def test_order_company_and_batch_size_do_not_matter(pset, classifier, data):
    attack, (index, x, y) = pgd(pset), data
    one = attack.run(classifier, x, y, RADII, index, batch_size=8)
    other = np.random.RandomState(0).permutation(IMAGES)
    results = [
        (other, attack.run(classifier, x[other], y[other], RADII, index[other], 8)),
        (range(IMAGES), attack.run(classifier, x, y, RADII, index, IMAGES)),
        (range(3), attack.run(classifier, x[:3], y[:3], RADII, index[:3])),
    ]
    for rows, result in results:
        assert_same(result, [value[:, rows] for value in one])


def test_starts_depend_on_the_seed_and_the_number_of_an_example(pset, classifier, data):
    _, x, y = data
    x, y = np.repeat(x[1:2], 8, 0), np.repeat(y[1:2], 8)
    looks = [
        lps.RandomSearch(pset, radius=0.01, num_samples=1, seed=seed).run(
            classifier, x, y, index=[0, 1, 2, 3, 0, 1, 2, 3]
        )
        for seed in (0, 0, 1)
    ]
    u, again, other = (look.u[0] for look in looks)
    assert not looks[0].success.any()
    np.testing.assert_array_equal(u, again)
    np.testing.assert_array_equal(u[:4], u[4:])
    assert len(np.unique(np.concatenate([u, other]), axis=0)) == 8


def test_a_radius_costs_no_more_than_its_errors(pset, classifier, data):
    index, x, y = data
    attack = pgd(pset)
    together = attack.run(classifier, x, y, RADII, index, batch_size=8)
    alone = [attack.run(classifier, x, y, [r], index, batch_size=8) for r in RADII]
    success = np.logical_or.accumulate([a.success[0] for a in alone])
    loss = np.maximum.accumulate([a.loss[0] for a in alone])
    np.testing.assert_array_equal(together.success, success)
    np.testing.assert_allclose(
        together.loss[~success], loss[~success], rtol=1e-4, atol=1e-5
    )
    assert (np.diff(together.loss, axis=0) >= 0).all()
    # An example misclassified in a small ball has the same latents in all larger ones.
    early = together.success[0]
    np.testing.assert_array_equal(together.u[2][early], together.u[0][early])
    # Without radii, the attack's own is the only one.
    assert_same(attack.run(classifier, x, y, index=index, batch_size=8), alone[1])


# What it costs.


@pytest.fixture
def cost(monkeypatch):
    """Slots times turns that were executed, and those that an example needed."""

    class Cost:
        executed = needed = 0

    def counting(*arguments):
        before = arguments[-1]["step"].numpy()
        state = search(*arguments)
        turns = state["step"].numpy() - before
        Cost.executed += turns.max() * len(turns)
        Cost.needed += turns.sum()
        return state

    search = scheduler.search
    monkeypatch.setattr(scheduler, "search", counting)
    return Cost


def test_misclassified_examples_cost_nothing(pset, classifier, data, cost):
    # Ten times the images, of which three in four are misclassified as they are.
    index, x, y = (np.concatenate([part] * 10) for part in data)
    right = classifier(x).numpy().argmax(1)
    y = np.where(np.arange(len(x)) % 4 == 1, right, (right + 1) % reference.CLASSES)

    def search(evaluate, u, radius, run):
        look = reference.Look(evaluate["cross-entropy"])
        reference.pgd(look, u, radius, 40, 0.1)
        return look

    first = (index[:IMAGES], x[:IMAGES], y[:IMAGES])
    needed = 10 * sum(one_by_one(first, 1, search, RADII[1:2])[3])
    attack = lps.LatentPGD(pset, radius=RADII[1], steps=40, relative_step=0.1)
    attack.run(classifier, x, y, index=index, batch_size=8)
    assert cost.needed == needed
    # While images arrive, at most one slot of eight idles; then the last ones go on.
    longest = 8 * 41
    assert cost.executed <= 8 / 7 * needed + longest
    # Batch after batch takes three times as long even if it stops where it can.
    assert cost.executed < len(x) / 8 * longest / 3
    whole, cost.executed = cost.executed, 0
    half = slice(0, len(x) // 2)
    attack.run(classifier, x[half], y[half], index=index[half], batch_size=8)
    assert abs(whole - 2 * cost.executed) <= longest


def test_misclassified_images_are_not_searched_at_all(pset, classifier, data, cost):
    index, x, _ = data
    wrong = (classifier(x).numpy().argmax(1) + 1) % reference.CLASSES
    result = pgd(pset).run(classifier, x, wrong, RADII, index, batch_size=8)
    assert cost.executed == 0 and result.success.all() and not result.u.any()
    loss = [reference.clean(*example)[0] for example in zip(x, wrong, strict=True)]
    np.testing.assert_allclose(result.loss, [loss] * len(RADII), rtol=1e-4)


def test_a_stream_gives_batches_in_order_and_takes_them_as_it_needs_them(
    pset, classifier, data
):
    index, x, y = data
    cuts = [slice(0, 8), slice(8, 16), slice(16, 17), slice(17, 24), slice(24, 32)]
    cuts += [slice(32, 40)] * 8
    taken = []

    def batches():
        for number, cut in enumerate(cuts):
            taken.append(number)
            yield index[cut], tf.constant(x[cut]), tf.constant(y[cut])

    attack = pgd(pset)
    expected = attack.run(classifier, x, y, RADII, index, batch_size=8)
    stream = attack.stream(classifier, batches(), RADII)
    assert not taken
    for number, (cut, (found, result)) in enumerate(zip(cuts, stream, strict=True)):
        np.testing.assert_array_equal(found, index[cut])
        assert_same(result, [value[:, cut] for value in expected])
        if number == 0:
            assert len(taken) < len(cuts) / 2
    assert list(attack.stream(classifier, [], RADII)) == []


# Other kinds of classifiers and sets.


def same_as_a_plain_graph(attack, runs, search, classifier, x, y, radii):
    """`assert_same` for any set and classifier, whose gradients TensorFlow takes."""
    pset = attack.perturbation_set

    @tf.function(autograph=False, reduce_retracing=True)
    def evaluate(x, y, u):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(u)
            images = pset.decode(pset.condition(x[None]), u[None])
            logits = classifier(images)[0]
            one_hot = tf.one_hot(y, logits.shape[-1])
            own = tf.reduce_sum(logits * one_hot, -1)
            loss = tf.reduce_sum(tf.reduce_logsumexp(logits, -1) - own)
            # The ratio of two classes is the plain margin.
            margin = tf.reduce_max(logits - 1e6 * one_hot, -1) - own
            margin = tf.reduce_sum(margin)
        wrong = tf.reduce_all(tf.argmax(logits, -1) != y)
        return {
            "cross-entropy": (loss, tape.gradient(loss, u), loss, wrong),
            "ratio": (margin, tape.gradient(margin, u), loss, wrong),
        }

    def numbers(image, label, kind, u):
        found = evaluate(image, tf.constant(label), tf.constant(u, tf.float32))[kind]
        value, gradient, loss, wrong = (part.numpy() for part in found)
        return value, gradient.astype(np.float64), loss, bool(wrong)

    examples = []
    for index, (image, label) in enumerate(zip(x, y, strict=True)):
        logits = classifier(image[None])[0].numpy()
        pixels = zip(logits.reshape(-1, logits.shape[-1]), np.ravel(label), strict=True)
        loss = sum(reference.cross_entropy(*pixel) for pixel in pixels)
        clean = loss, (logits.argmax(-1) != label).all()
        kinds = {
            kind: functools.partial(numbers, image, label, kind)
            for kind in ("cross-entropy", "ratio")
        }
        look = functools.partial(search, kinds)
        examples.append(
            reference.attack(clean, index, radii, runs, look, pset.latent_dim)
        )
    expected = stacked(examples)
    assert 0 < expected[1].mean() < 1
    assert_same(attack.run(classifier, x, y, radii), expected, 2e-2)


def test_segmenters_are_misclassified_when_every_pixel_is_wrong(pset, data):
    def segment(x, training=False):
        mean = tf.nn.avg_pool2d(x, 2, 1, "SAME")
        return tf.concat([4 * x - 2, 2 - 4 * mean, 0 * x - 3], -1)

    x = data[1][:10]
    y = np.full((10, 4, 4), 2)  # what it never answers
    y[1:, 0, 2:] = segment(x).numpy().argmax(-1)[1:, 0, 2:]  # two pixels are right
    same_as_a_plain_graph(pgd(pset), 1, pgd_search, segment, x, y, (0.5, 4.0))


def test_two_logits_have_a_margin_and_no_third_to_divide_by(pset, classifier, data):
    def two(x, training=False):
        return classifier(x)[:, :2]

    x = data[1][:10]
    y = two(x).numpy().argmax(-1)
    attack = lps.LatentAPGD(pset, radius=1.0, steps=STEPS)
    same_as_a_plain_graph(attack, 2, auto_pgd_search, two, x, y, (0.5, 2.0))


@pytest.mark.slow
def test_latents_may_be_maps():
    keras.utils.set_random_seed(1)
    pset = lps.PerturbationSet.from_network(
        "mnist_conv", filters=(2, 3), latent_channels=2
    )
    pset.build((None, 8, 8, 1))
    layers = [keras.layers.Flatten(), keras.layers.Dense(3)]
    classifier = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    random = np.random.RandomState(0)
    for weight in pset.trainable_variables:
        weight.assign(random.normal(0, 0.4, weight.shape))
    x = random.uniform(size=(8, 8, 8, 1)).astype(np.float32)
    y = classifier(x).numpy().argmax(-1)
    same_as_a_plain_graph(pgd(pset), 1, pgd_search, classifier, x, y, (0.5, 3.0))


def test_without_xla_as_under_a_strategy_the_results_are_the_same(
    pset, classifier, data
):
    index, x, y = data
    attack = lps.LatentAPGD(pset, radius=1.0, steps=STEPS, restarts=2)
    expected = attack.run(classifier, x, y, index=index, batch_size=8)
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        result = attack.run(classifier, x, y, index=index, batch_size=8)
    assert_same(result, expected, 2e-2)


# What cannot be.


def test_a_classifier_that_is_not_a_number_does_not_count_as_robust(
    pset, classifier, data
):
    _, x, y = data

    def broken(x, training=False):
        bright = tf.reduce_mean(x, (1, 2)) > 0.43
        return tf.where(bright, float("nan"), 1.0) * classifier(x)

    def without_gradient(x, training=False):
        # The root is never taken, but its gradient is.
        trap = tf.where(x > 2, tf.sqrt(x - 2), 0.0)
        return classifier(x) + tf.reduce_sum(trap, (1, 2, 3))[:, None]

    dark = x.mean((1, 2, 3)) < 0.43
    for bad in (broken, without_gradient):
        with pytest.raises(ValueError, match="not finite"):
            pgd(pset).run(bad, x[dark], y[dark], (2.0,))


def test_errors(pset, classifier, data):
    index, x, y = data
    for radii in ((1.0, 0.5), (1.0, 1.0), (0.0, 1.0), (-1.0,), (1.0, np.inf), ()):
        with pytest.raises(ValueError, match="`radii` must"):
            pgd(pset).run(classifier, x, y, radii)
        with pytest.raises(ValueError, match="`radii` must"):
            pgd(pset).stream(classifier, [], radii)
    run = pgd(pset).run
    with pytest.raises(ValueError, match="must be a number"):
        run(classifier, x, y, ["large"])
    with pytest.raises(ValueError, match="at least 0 and below 4"):
        run(classifier, x, np.where(index == index[-1], 4, y), index=index)
    with pytest.raises(ValueError, match="at least 0"):
        run(classifier, x, y - 4)
    with pytest.raises(ValueError, match="Labels must be integers"):
        run(classifier, x, y + 0.5)
    with pytest.raises(ValueError, match="holds NaN"):
        run(classifier, np.where(x == x.max(), np.nan, x), y)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        run(classifier, 255 * x, y)
    with pytest.raises(ValueError, match="is empty"):
        run(classifier, x[:0], y[:0])
    for labels, numbers in ((y[1:], index), (np.r_[y, y], index), (y, index[1:])):
        with pytest.raises(ValueError, match="equally long"):
            run(classifier, x, labels, index=numbers, batch_size=8)


def test_batches_of_a_stream_are_no_larger_than_the_first(pset, classifier, data):
    index, x, y = data
    batches = [(index[c], x[c], y[c]) for c in (slice(0, 8), slice(8, 17))]
    with pytest.raises(ValueError, match=r"at most 8 as the first one. Received: 9 im"):
        list(pgd(pset).stream(classifier, batches))
    with pytest.raises(ValueError, match="Received: 8 images, 7 labels, 8 numbers"):
        list(pgd(pset).stream(classifier, [(index[:8], x[:8], y[:7])]))


def test_what_cannot_be_evaluated_says_so(pset, classifier, data):
    _, x, y = data
    with pytest.raises(NotImplementedError, match="certificates"):
        lps.SmoothedPGD(pset, 0.5, radius=1.0).run(classifier, x, y)
    for attack in (lps.LatentPGD, lps.LatentAPGD, lps.RandomSearch):
        with pytest.raises(ValueError, match="has no radius yet"):
            attack(pset)
        with pytest.raises(ValueError, match="`radius` must be positive and finite"):
            attack(pset, radius=np.inf)
        with pytest.raises(ValueError, match="`radius` must be positive"):
            attack(pset, radius=0)
    for attack in (lps.LatentPGD, lps.LatentAPGD):
        with pytest.raises(ValueError, match="`restarts` must be a whole number"):
            attack(pset, radius=1.0, restarts=0)
    with pytest.raises(ValueError, match="`num_samples` must be a whole number"):
        lps.RandomSearch(pset, radius=1.0, num_samples=0)

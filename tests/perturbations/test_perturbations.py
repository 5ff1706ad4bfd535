"""Perturbations in training: attacks called in a graph, and random draws."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import lps_tf as lps
from lps_tf.sets import latent
from lps_tf.sets import search as search_module
from lps_tf.sets.search import Problem, initial, search
from tests.perturbations import attack_reference as reference

SEED = tf.constant([3, 4])


@pytest.fixture(scope="module")
def pset():
    return reference.small_set()


@pytest.fixture(scope="module")
def classifier():
    return reference.small_classifier()


@pytest.fixture(scope="module")
def x():
    return np.random.RandomState(1).uniform(size=(40, 4, 4, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def y(classifier, x):
    """What the classifier answers."""
    return answers(classifier, x)


def answers(classifier, x):
    return classifier(x).numpy().argmax(-1)


def losses(classifier, images, labels):
    logits = classifier(images, training=False)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits).numpy()


def find(attack, classifier, x, y):
    conditioned = attack.perturbation_set.condition(x)
    return attack.find(classifier, conditioned, tf.constant(y), SEED).numpy()


def starts(pset, classifier, x, y, radius):
    """Where the first search of any attack starts: at the first random draw."""
    return find(lps.RandomSearch(pset, radius=radius, num_samples=1), classifier, x, y)


# Projected gradient ascent.


@pytest.mark.parametrize("radius", [0.3, 2.0])
def test_latents_never_leave_the_ball(pset, classifier, x, y, radius):
    # Defect 1: the original projects along the batch, and of 128 many leave the ball.
    rows = np.arange(128) % len(x)
    attack = lps.LatentPGD(pset, radius=radius, steps=5, relative_step=3.0)
    norms = np.linalg.norm(find(attack, classifier, x[rows], y[rows]), axis=1)
    assert norms.max() <= radius * (1 + 1e-5)
    assert (norms > 0.99 * radius).mean() > 0.2  # steps this long reach the border


def test_latents_are_those_of_one_example_at_a_time(pset, classifier, x, y):
    radius, steps = 1.5, 7
    u = find(lps.LatentPGD(pset, radius=radius, steps=steps), classifier, x, y)
    first = starts(pset, classifier, x, y, radius).astype(np.float64)
    misclassified = 0
    for row, example in enumerate(zip(x, y, strict=True)):
        points = []

        def evaluate(u, example=example, points=points):
            points.append(u)
            return reference.evaluate(*example, "cross-entropy", u)

        look = reference.Look(evaluate)
        reference.pgd(look, first[row], radius, steps, 0.2)
        # Where the steps led, or where it stopped because it was misclassified.
        np.testing.assert_allclose(u[row], points[-1], atol=1e-3)
        misclassified += look.wrong
    assert 0.2 < misclassified / len(x) < 0.8


def test_attack_raises_the_loss_of_right_answers(pset, classifier, x):
    y = answers(classifier, pset(x))  # right at the centre
    attack = lps.LatentPGD(pset, radius=1.0, steps=20, relative_step=0.1)
    before = losses(classifier, pset(x), y)
    after = losses(classifier, attack(classifier, x, y, SEED), y)
    assert (after > before).mean() >= 0.8


def test_attack_beats_random_search_of_the_same_size(pset, classifier, x, y):
    attack = lps.LatentPGD(pset, radius=1.0, steps=30, relative_step=0.1)
    perturbed = attack(classifier, x, y, SEED)
    misclassified = answers(classifier, perturbed) != y
    draws = [pset.sample(x, radius=1.0, seed=i) for i in range(30)]
    random = np.max([losses(classifier, draw, y) for draw in draws], 0)
    fooled = np.array([answers(classifier, draw) != y for draw in draws])
    # A wrong answer is the end of an attack, whatever its loss.
    stronger = misclassified | (losses(classifier, perturbed, y) >= random - 1e-3)
    assert stronger.mean() >= 0.9  # a few are at a local maximum
    assert misclassified.sum() >= fooled.any(0).sum()
    assert misclassified.mean() > 1.5 * fooled.mean()


def test_misclassified_examples_do_not_move(pset, classifier, x):
    u0 = latent.sample_uniform_radius((len(x), 3), 0.5, SEED)
    right = answers(classifier, pset.perturb(x, u0))
    wrong = np.arange(len(x)) % 2 == 0
    y = np.where(wrong, (right + 1) % reference.CLASSES, right)
    attack = lps.LatentPGD(pset, radius=2.0, relative_step=0.05)
    kind = tf.zeros(len(x), tf.int32)
    problem = Problem(
        attack.rule,
        attack.objective,
        pset,
        classifier,
        pset.condition(x),
        tf.constant(y),
        {"loss_index": kind, "radius": tf.fill(len(x), 2.0), **attack.parameters()},
        tf.constant(5),
    )
    state = search(problem, tf.constant(len(x)), initial(u0))
    stayed = (state["u"].numpy() == u0.numpy()).all(1)
    np.testing.assert_array_equal(stayed, wrong)
    np.testing.assert_array_equal(state["step"].numpy()[wrong], 1)
    assert state["misclassified"].numpy()[wrong].all()


def test_gradient_agrees_with_finite_differences(
    tiny_set, tiny_classifier, images, labels
):
    conditioned = tiny_set.condition(images)
    u = latent.sample_uniform_radius((6, 4), 1.0, tf.constant([0, 3]))

    def loss(u):
        logits = tiny_classifier(tiny_set.decode(conditioned, u), training=False)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits), None

    _, _, direction = latent.ascent_direction(loss, u)
    h = 1e-2
    numeric = np.stack(
        [
            (loss(u + h * e)[0] - loss(u - h * e)[0]).numpy() / (2 * h)
            for e in np.eye(4, dtype=np.float32)
        ],
        1,
    )
    numeric /= np.linalg.norm(numeric, axis=1, keepdims=True)
    cosine = (numeric * direction.numpy()).sum(1)
    assert np.median(cosine) > 0.99  # bilinear sampling has kinks


def test_attack_leaves_every_weight_alone(tiny_set, images, labels, monkeypatch):
    # Defect 9: the original's attack computes gradients of all weights.
    tapes = []

    class Spy(tf.GradientTape):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            tapes.append(self)

    monkeypatch.setattr(tf, "GradientTape", Spy)
    monkeypatch.setattr(search_module, "_compiles", lambda problem: False)
    # A classifier of its own, because what is traced before makes no tapes.
    fresh = lps.networks.classifiers.small_cnn((12, 12, 1), 3, filters=(4,), units=8)
    before = [*tiny_set.get_weights(), *fresh.get_weights()]
    find(lps.LatentPGD(tiny_set, steps=2), fresh, images, labels)
    assert tapes and not any(tape.watched_variables() for tape in tapes)
    after = [*tiny_set.get_weights(), *fresh.get_weights()]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_gradient_flows_through_the_attack(pset, classifier, x, y):
    attack = lps.LatentPGD(pset, radius=1.0, steps=2)
    with tf.GradientTape() as tape:
        u = attack.find(classifier, pset.condition(x), tf.constant(y), SEED)
        perturbed = attack(classifier, x, y, SEED)
        loss = tf.reduce_sum(classifier(perturbed))
    direct = tape.gradient(loss, classifier.trainable_variables)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(classifier(pset.perturb(x, u)))
    expected = tape.gradient(loss, classifier.trainable_variables)
    for found, gradient in zip(direct, expected, strict=True):
        np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=1e-5)


def test_segmenters_are_attacked_until_every_pixel_is_wrong(pset, x):
    def segment(x, training=False):
        return tf.concat([4 * x - 2, 2 - 4 * x], -1)

    def total(images, y):
        return losses(segment, images, y).sum((1, 2))

    y = answers(segment, pset(x))  # every pixel is right at the centre
    attack = lps.LatentPGD(pset, radius=1.0, steps=20, relative_step=0.1)
    after = total(attack(segment, x, y, SEED), y)
    random = np.mean(
        [total(pset.sample(x, radius=1.0, seed=i), y) for i in range(9)], 0
    )
    assert (after > random).mean() > 0.95
    # With one pixel right, an image moves; with none, it is left where it started.
    moved = []
    for labels in (1 - y, np.where(np.arange(4) == 2, y, 1 - y)):
        few, more = (
            find(lps.LatentPGD(pset, radius=1e-3, steps=n), segment, x, labels)
            for n in (1, 4)
        )
        moved.append((few != more).any(1))
    sure = np.abs(pset(x) - 0.5).min((1, 2, 3)) > 1e-3
    assert sure.sum() > 10
    assert not moved[0][sure].any() and moved[1][sure].all()


# Restarts, random search, soft labels.


@pytest.mark.parametrize("draws", [1, 6])
def test_random_search_keeps_the_worst_draw(pset, classifier, x, y, draws):
    found = find(
        lps.RandomSearch(pset, radius=1.0, num_samples=draws), classifier, x, y
    )
    seed = latent.fold_in(SEED, 0)  # with the attack's own seed
    points = np.stack(
        [
            latent.sample_uniform_radius((len(x), 3), 1.0, latent.fold_in(seed, run))
            for run in range(draws)
        ]
    )
    for row, example in enumerate(zip(x, y, strict=True)):
        looks = [reference.evaluate(*example, "cross-entropy", u[row]) for u in points]
        order = [(bool(wrong), loss) for _, _, loss, wrong in looks]
        np.testing.assert_allclose(found[row], points[order.index(max(order)), row])


def test_restarts_keep_what_beats_the_classifier(pset, classifier, x, y):
    success, loss = [], []
    for restarts in (1, 2, 4):
        # Of one search the last point counts, of several the worst.
        attack = lps.LatentAPGD(pset, radius=1.0, steps=9, restarts=restarts)
        perturbed = attack(classifier, x, y, SEED)
        success.append(answers(classifier, perturbed) != y)
        loss.append(losses(classifier, perturbed, y))
    assert (success[0] <= success[1]).all() and (success[1] <= success[2]).all()
    assert success[0].any() and not success[2].all()
    held = ~success[2]
    assert (np.diff(loss, axis=0)[:, held] >= -1e-5).all()


def test_a_wrong_answer_counts_more_than_a_larger_loss():
    # Right answers beside u = 0 are doubtful, the wrong ones above 0.5 are not.
    def classify(u, training=False):
        u = tf.reshape(u, (tf.shape(u)[0], -1))[:, :1]
        upwards = u * [[-1.0, 1.0, 0.0]]
        logits = tf.where(u > 0.5, [[5.0, 5.2, -9.0]], [[0.02, 0.0, 0.0]])
        return logits + upwards - tf.stop_gradient(upwards)

    x, y = np.zeros((40, 1, 1, 1), np.float32), np.zeros(40, np.int64)
    pset, wrong = reference.Latents(1), np.log1p(np.exp(0.2))
    assert wrong < losses(classify, x, y).min()
    for attack in (
        lps.LatentPGD(pset, radius=1.0, steps=12, restarts=2),
        lps.RandomSearch(pset, radius=1.0, num_samples=3),
    ):
        u = find(attack, classify, x, y)[:, 0]
        result = attack.run(classify, x, y)
        np.testing.assert_array_equal(result.success[0], result.u[0, :, 0] > 0.5)
        np.testing.assert_allclose(result.loss[result.success], wrong, rtol=1e-4)
        if isinstance(attack, lps.LatentPGD):
            assert (u > 0.5).all() and result.success.all()
        else:
            seeds = [latent.fold_in(latent.fold_in(SEED, 0), run) for run in range(3)]
            draws = [latent.sample_uniform_radius((40, 1), 1.0, seed) for seed in seeds]
            np.testing.assert_array_equal(u > 0.5, np.max(draws, 0)[:, 0] > 0.5)
            highest = [
                max(reference.start(0, index, run, 1.0, 1) for run in range(3))
                for index in range(40)
            ]
            np.testing.assert_array_equal(result.success[0], np.ravel(highest) > 0.5)


@pytest.mark.slow
def test_probabilities_instead_of_labels_are_moved_away_from(pset, classifier, x, y):
    p = tf.nn.softmax(classifier(x))

    def divergence(images):
        q = tf.nn.log_softmax(classifier(images))
        return tf.reduce_sum(p * (tf.math.log(p) - q), 1).numpy()

    for attack in (
        lps.LatentPGD(pset, radius=1.0, steps=20, relative_step=0.1),
        lps.LatentAPGD(pset, radius=1.0, steps=9),
    ):
        soft = attack(classifier, x, p, SEED)
        # It goes on when the answer is wrong, where labels end it.
        hard = attack(classifier, x, y, SEED)
        random = [divergence(pset.sample(x, radius=1.0, seed=i)) for i in range(20)]
        assert (divergence(soft) > np.max(random, 0) - 1e-3).mean() > 0.8
        misclassified = answers(classifier, hard) != y
        assert (divergence(soft) > divergence(hard) + 1e-3)[misclassified].mean() > 0.7


# Draws of a call.


def stock(pset):
    """Latents to draw from, all inside of the ball of radius 1."""
    return np.random.RandomState(0).uniform(-0.3, 0.3, (500, pset.latent_dim))


def perturbations(pset, seed=0):
    ball = {"radius": 1.0, "seed": seed}
    return [
        lps.LatentPGD(pset, steps=3, **ball),
        lps.LatentAPGD(pset, steps=9, **ball),
        lps.SmoothedPGD(pset, 0.5, steps=3, **ball),
        lps.RandomSearch(pset, num_samples=2, **ball),
        lps.LatentAugmentation(pset, **ball),
        lps.LatentAugmentation(pset, latents=stock(pset), **ball),
        lps.LatentNoise(pset, 0.5, seed=seed),
        lps.LatentNoise(pset, 0.5, num_samples=2, seed=seed),
    ]


@pytest.mark.parametrize("number", range(8))
def test_a_call_draws_by_its_seed(pset, classifier, x, y, number):
    perturb, other = (perturbations(pset, seed)[number] for seed in (0, 1))
    x, y = tf.constant(x), tf.constant(y)

    @tf.function
    def graph(seed=None):
        return perturb(classifier, x, y, seed)

    def different(one, other):
        # Not all: searches that start apart may meet at the maximum.
        return (one != other).numpy().any((-1, -2, -3)).mean() > 0.7

    one, again, next_one = (graph(tf.constant(s)) for s in ([1, 2], [1, 2], [2, 2]))
    views = () if len(one.shape) == 4 else (2,)
    assert one.shape == (*views, *x.shape)
    np.testing.assert_array_equal(one, again)
    assert different(one, next_one)
    assert not views or different(one[0], one[1])
    np.testing.assert_allclose(
        perturb(classifier, x, y, tf.constant([1, 2])), one, atol=2e-3
    )
    assert different(graph(), graph())
    # An attack of another seed draws differently when it is given the same one.
    assert different(one, other(classifier, x, y, tf.constant([1, 2])))


@pytest.mark.parametrize("number", [1, 2])
def test_a_call_may_be_compiled_as_a_whole(pset, classifier, x, y, number):
    perturb, x, y = perturbations(pset)[number], tf.constant(x), tf.constant(y)
    compiled = tf.function(
        lambda: perturb(classifier, x, y, SEED), jit_compile=True, autograph=False
    )
    np.testing.assert_allclose(compiled(), perturb(classifier, x, y, SEED), atol=2e-3)


def test_augmentation_and_noise_draw_from_their_laws(classifier):
    x, y = np.zeros((2000, 4, 4, 1), np.float32), np.zeros(2000, np.int64)
    u = lps.LatentAugmentation(reference.Latents(), radius=1.5)(None, x, y).numpy()
    assert np.linalg.norm(u, axis=1).max() <= 1.5 * (1 + 1e-5)
    assert np.abs(u.mean(0)).max() < 0.08
    noise = lps.LatentNoise(reference.Latents(), 0.7)(None, x, y).numpy()
    assert noise.std() == pytest.approx(0.7, rel=0.03)
    assert np.abs(noise.mean()) < 0.03
    views = lps.LatentNoise(reference.Latents(), 0.7, num_samples=3)(None, x, y).numpy()
    assert views.shape == (3, 2000, 4)
    correlation = np.corrcoef(views.reshape(3, -1)) - np.eye(3)
    assert np.abs(correlation).max() < 0.05
    np.testing.assert_allclose(views.std((1, 2)), 0.7, rtol=0.03)


def test_augmentation_draws_given_latents_alike_and_inside_of_the_ball():
    x, y = np.zeros((5000, 4, 4, 1), np.float32), np.zeros(5000, np.int64)
    latents = np.array([[1, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 0, 3], [0, 0, 0, 0]])
    augmentation = lps.LatentAugmentation(
        reference.Latents(), latents=latents, radius=1.5, num_samples=2
    )
    views = augmentation(None, x, y).numpy()
    allowed = latents.copy()
    allowed[2, 3] = 1.5  # pulled to the rim
    row = np.abs(views[:, :, None] - allowed).max(-1).argmin(-1)  # (2, 5000)
    np.testing.assert_allclose(views, allowed[row], atol=1e-6)
    for counts in (np.bincount(row[0]), np.bincount(row[1])):
        assert scipy.stats.chisquare(counts).pvalue > 1e-3
    joint = np.bincount(4 * row[0] + row[1], minlength=16)  # the views do not repeat
    assert scipy.stats.chisquare(joint).pvalue > 1e-3
    augmentation.radius = 5.0
    far = augmentation(None, x, y).numpy()
    assert np.linalg.norm(far, axis=-1).max() == pytest.approx(3)


def test_given_latents_are_checked_and_fixed(tiny_set):
    for latents, message in (
        (np.zeros((3, 5)), r"`latents` must be latents of the set, \(number, 4\)"),
        (np.zeros(4), r"Received: shape \(4,\)"),
        (np.zeros((0, 4)), r"Received: shape \(0, 4\)"),
        ("nonsense", "`latents` must be latents of the set.*Received: a str"),
        ((np.zeros((3, 4)), np.arange(3)), "returns them first. Received: a tuple"),
        (np.full((2, 4), np.nan), "`latents` must be finite.*8 numbers of 8"),
    ):
        with pytest.raises(ValueError, match=message):
            lps.LatentAugmentation(tiny_set, latents=latents)
    given = np.ones((2, 4), np.float32)
    augmentation = lps.LatentAugmentation(tiny_set, latents=given)
    given[:] = 7  # a copy was taken
    assert augmentation.latents.max() == 1
    with pytest.raises(ValueError, match="read-only"):
        augmentation.latents[:] = 2
    with pytest.raises(AttributeError, match="`latents` of a LatentAugmentation is"):
        augmentation.latents = given


def test_errors(tiny_set):
    fresh = lps.PerturbationSet.from_network("mnist_stn", latent_dim=4)
    for perturbation in (lps.LatentPGD, lps.LatentAugmentation):
        with pytest.raises(ValueError, match="has no radius yet"):
            perturbation(fresh)
        with pytest.raises(ValueError, match="`radius` must be positive"):
            perturbation(tiny_set, radius=0)
    with pytest.raises(ValueError, match="`sigma` must be positive"):
        lps.LatentNoise(tiny_set, -0.5)
    with pytest.raises(ValueError, match="`sigma` must be positive"):
        lps.SmoothedPGD(tiny_set, 0)
    for smoothed in (lps.LatentNoise, lps.SmoothedPGD):
        with pytest.raises(ValueError, match="`num_samples` must be a whole number"):
            smoothed(tiny_set, 0.5, num_samples=0)
    with pytest.raises(ValueError, match="`steps` must be a whole number"):
        lps.LatentPGD(tiny_set, steps=0)
    with pytest.raises(ValueError, match="`relative_step` must be positive"):
        lps.LatentPGD(tiny_set, relative_step=0)

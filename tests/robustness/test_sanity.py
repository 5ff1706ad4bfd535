import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

import lps_tf as lps
from lps_tf.robustness import sanity_checks

DIM, IMAGES, STEPS = 24, 64, 10


class StandardNormal(keras.layers.Layer):
    """A prior, or a recognition, that does not look at the image."""

    def call(self, x, training=False):
        zeros = tf.zeros((tf.shape(x)[0], DIM))
        return zeros, zeros


class Patterns(keras.layers.Layer):
    """A generator that adds fixed patterns of light and shade to 8x8 images."""

    def __init__(self):
        super().__init__()
        patterns = np.linalg.qr(np.random.RandomState(0).normal(size=(64, DIM)))[0]
        self.patterns = tf.constant(patterns.T, tf.float32)

    def condition(self, x, training=False):
        return 4 * x - 2

    def decode(self, features, z, training=False):
        shade = tf.reshape(z @ self.patterns, (-1, 8, 8, 1))
        return tf.sigmoid(features + 1.5 * shade)

    def call(self, inputs):
        x, z = inputs
        return self.decode(self.condition(x), z)


@pytest.fixture(scope="module")
def pset():
    return lps.PerturbationSet(StandardNormal(), StandardNormal(), Patterns(), radius=2)


class Breakable(keras.layers.Layer):
    """A classifier whose gradients can be masked in several ways."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        # Variables, so that attacks on every kind of it are compiled but once.
        self.scale, self.cut, self.noise = (
            self.add_weight(shape=(), initializer="zeros") for _ in range(3)
        )

    def become(self, scale=1.0, cut=0.0, noise=0.0):
        self.scale.assign(scale)
        self.cut.assign(cut)
        self.noise.assign(noise)
        return self

    def call(self, x, training=False):
        x = self.cut * tf.stop_gradient(x) + (1 - self.cut) * x
        x += self.noise * tf.random.normal(tf.shape(x))
        return self.scale * self.inner(x)


@pytest.fixture(scope="module")
def case(pset):
    """Images, labels and a classifier that is trained on other ones."""
    keras.utils.set_random_seed(0)
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    layers = [keras.layers.Flatten(), keras.layers.Dense(32, "relu")]
    inner = keras.Sequential([*layers, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    inner.compile(keras.optimizers.Adam(0.01), loss)
    inner.fit(pset(x[IMAGES:]).numpy(), y[IMAGES:], 64, epochs=12, verbose=0)
    return x[:IMAGES], y[:IMAGES], Breakable(inner)


def run(pset, x, y, classifier, radii=(1.0, 3.0)):
    return sanity_checks(
        classifier, pset, x, y, radii=radii, steps=STEPS, verbose=False
    )


GRADIENTS = "gradients agree with differences of the loss"
RISES = "PGD raises the loss"
TRUE = "what is found is in the ball and as bad as reported"
FAR = "accuracy falls far in a huge ball"
FALLS = "accuracy falls with the radius"
UNMASKED = "Square finds nothing that APGD does not"
ORDERS = {
    "PGD is at least as strong as random search": ("PGD", "random"),
    "APGD is at least as strong as PGD": ("APGD", "PGD"),
    "more steps do not help the defender": ("PGD longer", "PGD"),
    "more restarts do not help the defender": ("PGD restarts", "PGD"),
    "more steps of APGD do not help the defender": ("APGD longer", "APGD"),
}


@pytest.mark.slow
def test_a_healthy_classifier_passes(pset, case):
    x, y, classifier = case
    report = run(pset, x, y, classifier.become())
    assert report.passed and report.failed == []
    assert {check.name for check in report.checks} == {
        *(GRADIENTS, RISES, TRUE, FAR, FALLS, UNMASKED),
        *ORDERS,
    }
    # The accuracies are those of the attacks themselves.
    attack = lps.LatentPGD(pset, steps=STEPS, relative_step=2.5 / STEPS)
    for radius, accuracy in zip((1.0, 3.0), report.accuracy["PGD"], strict=True):
        result = attack.run(classifier, x, y, [radius])
        assert accuracy == pytest.approx(1 - result.success.mean())
    assert report.accuracy["PGD"][1] < report.accuracy["random search"][1] - 0.3
    assert f"11 of 11 checks passed\npassed  {FALLS}: " in str(report)


@pytest.mark.slow
def test_a_stopped_gradient_is_found(pset, case):
    x, y, classifier = case
    report = run(pset, x, y, classifier.become(cut=1.0), radii=(9.0,))
    assert {GRADIENTS, RISES} <= set(report.failed)
    # Worth an alarm: what follows gradients finds less than what does not.
    assert "PGD is at least as strong as random search" in report.failed
    assert UNMASKED in report.failed
    figures = {check.name: check.figures for check in report.checks}
    assert figures[GRADIENTS]["share of zeros"] == 1
    text = str(report)
    assert f"FAILED  {GRADIENTS}: median cosine 0, share of zeros 1\n" in text
    assert "Gradients are masked" in text


@pytest.mark.slow
def test_a_saturated_loss_is_found(pset, case):
    x, y, classifier = case
    report = run(pset, x, y, classifier.become(scale=1e4), radii=(3.0,))
    assert {GRADIENTS, RISES} <= set(report.failed)
    # To cross-entropy it seems robust. APGD has a loss that no scale deceives.
    assert report.accuracy["PGD"][0] > report.accuracy["APGD"][0] + 0.3


@pytest.mark.slow
def test_a_classifier_that_answers_at_random_is_found(pset, case):
    x, y, classifier = case
    report = run(pset, x, y, classifier.become(noise=0.3), radii=(1.0,))
    assert {GRADIENTS, TRUE} <= set(report.failed)


@pytest.mark.slow
@pytest.mark.parametrize("lie", ["radius", "latents", "success"])
def test_an_attack_that_reports_what_is_not_true_is_found(pset, case, monkeypatch, lie):
    class Broken(lps.LatentAPGD):
        def run(self, classifier, x, y, radii, ignore_class):
            if lie == "radius":  # as projecting along the wrong axis does, defect 1
                return super().run(classifier, x, y, [1.5 * r for r in radii])
            result = super().run(classifier, x, y, radii)
            if lie == "latents":
                return result._replace(u=0.1 * result.u)
            return result._replace(success=np.ones_like(result.success))

    x, y, classifier = case
    monkeypatch.setattr(lps.robustness.sanity, "LatentAPGD", Broken)
    report = run(pset, x, y, classifier.become(), radii=(1.0,))
    assert report.failed == [TRUE]


def fake_attacks(monkeypatch, wrong, misclassified):
    """Attacks of which each beats a given number of images, and those in `wrong`.

    `misclassified` says how many by name and radius, or for all radii by name.
    """

    def fake(name):
        def attack(pset, steps=STEPS, restarts=1, **kwargs):
            longer = " longer" if steps > STEPS else " restarts" if restarts > 1 else ""
            which = name + longer

            def go(classifier, x, y, radii=(1.0,), ignore_class=None):
                count = misclassified.get((which, radii[0]), misclassified[which])
                success = (np.arange(len(x)) < count) | wrong
                u = np.zeros((1, len(x), DIM), np.float32)
                found_by = np.full((1, len(x)), which)
                loss = np.ones((1, len(x)))
                return lps.AttackResult(loss, success[None], u, found_by)

            return type("Fake", (), {"run": staticmethod(go)})

        return attack

    for name, cls in (
        ("random", "RandomSearch"),
        ("PGD", "LatentPGD"),
        ("APGD", "LatentAPGD"),
        ("Square", "LatentSquare"),
    ):
        monkeypatch.setattr(lps.robustness.sanity, cls, fake(name))


@pytest.fixture
def faked(pset, case, monkeypatch):
    x, y, classifier = case
    classifier.become()
    wrong = np.asarray(classifier(x)).argmax(1) != y
    names = {name for pair in ORDERS.values() for name in pair}

    def failed(misclassified):
        counts = {**dict.fromkeys(names, 40), "Square": 30, **misclassified}
        fake_attacks(monkeypatch, wrong, counts)
        return {*run(pset, x, y, classifier).failed} - {GRADIENTS, RISES, TRUE}

    return failed


@pytest.mark.parametrize("name", ORDERS)
def test_weaker_attacks_that_find_more_are_noticed(faked, name):
    strong, _ = ORDERS[name]
    below = {strong: 20}
    if strong in ("PGD", "APGD"):  # those that are compared with it find less as well
        below |= {f"{strong} longer": 20, f"{strong} restarts": 20}
    assert name in faked(below)
    assert not faked({"PGD": 40})
    # A few images either way are chance.
    assert not faked({key: 36 for key in below})
    # Finding more is what they are for.
    assert name not in faked({key: 60 for key in below})


def test_accuracy_that_rises_with_the_radius_is_noticed(faked):
    assert faked({("APGD", 1.0): 50, ("APGD", 3.0): 30}) >= {FALLS}
    assert faked({("PGD", 1.0): 40, ("PGD", 3.0): 20}) >= {FALLS}
    assert FALLS not in faked({("APGD", 1.0): 44})


def test_images_that_only_square_finds_are_noticed(faked):
    assert UNMASKED not in faked({"Square": 41})
    assert UNMASKED in faked({("Square", 1.0): 43})
    # What either of the two searches by gradients finds, they did not miss.
    assert UNMASKED not in faked({"Square": 60, "APGD longer": 60})


def test_images_that_nothing_reaches_are_noticed(faked):
    names = {name for pair in ORDERS.values() for name in pair}
    few = dict.fromkeys({*names, "Square"}, 10)
    assert faked(few) == {FAR}
    assert not faked({**few, ("APGD", 30.0): 60})


@pytest.mark.slow
def test_segmenters_are_checked_too(pset, case):
    x = case[0][:16]
    y = (pset(x).numpy()[..., 0] > 0.5).astype(np.int64)
    segment = keras.layers.Conv2D(2, 3, padding="same")
    segment(x)
    weights = np.zeros((3, 3, 1, 2), np.float32)
    weights[1, 1, 0] = -5, 5
    segment.set_weights([weights, np.array([2.5, -2.5], np.float32)])
    report = run(pset, x, y, segment)
    assert report.passed
    assert report.accuracy["APGD"][1] < report.accuracy["random search"][1]


def test_errors(pset, case):
    x, y, classifier = case
    classifier.become()
    with pytest.raises(ValueError, match="`radii` must be positive"):
        run(pset, x, y, classifier, radii=[-1.0])
    answers = np.asarray(classifier(x)).argmax(1)
    with pytest.raises(ValueError, match="Every image is misclassified"):
        run(pset, x, (answers + 1) % 10, classifier)
    with pytest.raises(ValueError, match="`steps` must be a whole number"):
        sanity_checks(classifier, pset, x, y, radii=[1.0], steps=0)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        run(pset, 255 * x, y, classifier)

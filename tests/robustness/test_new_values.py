"""What may be replaced after construction counts at once; the rest says so."""

import copy

import keras
import numpy as np
import pytest

import lps_tf as lps
from tests.robustness.pixel_ball import PixelBall, linear
from tests.robustness.users import (
    GRAPH,
    X,
    Y,
    attack,
    cross_entropy,
    evaluated,
    fitted,
    robust,
    shift,
)


def replaced(name, value):
    def change(model):
        setattr(model, name, value)

    return change


def change_of_perturbation(name, value):
    def change(model):
        setattr(model.perturbation, name, value)

    return change


CHANGES = {
    "perturbation": (
        {"perturbation": shift(0.0)},
        replaced("perturbation", shift(0.7)),
    ),
    "objective": (
        {"perturbation": shift(0.7), "objective": lps.objectives.WorstLoss()},
        replaced("objective", lps.objectives.Trades(beta=20.0)),
    ),
    "radius of an attack": (
        {"perturbation": attack(radius=1e-3)},
        change_of_perturbation("radius", 3.0),
    ),
    "sigma of noise": (
        {"perturbation": lps.LatentNoise(PixelBall(), 1e-3)},
        change_of_perturbation("sigma", 3.0),
    ),
    "radius of an augmentation": (
        {"perturbation": lps.LatentAugmentation(PixelBall(), radius=1e-3)},
        change_of_perturbation("radius", 3.0),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_new_value_counts_at_once(name):
    options, change = CHANGES[name]
    model = robust(linear(), compile_options=GRAPH, **copy.deepcopy(options))
    before = evaluated(model, X, Y, batch_size=12)
    change(model)
    after = evaluated(model, X, Y, batch_size=12)
    assert abs(after["loss"] - before["loss"]) > 1e-3
    fresh = robust(linear(), **copy.deepcopy(options))
    change(fresh)
    expected = evaluated(fresh, X, Y, batch_size=12)
    assert after == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "name, value", [("clean_fraction", 0.75), ("warmup_epochs", 5)]
)
def test_a_new_share_of_clean_images_counts_at_once(name, value):
    model = robust(linear(), shift(2.0), GRAPH)
    model.optimizer.learning_rate = 0.0
    model.train_on_batch(X, Y)
    setattr(model, name, value)
    model.reset_metrics()  # Keras 3.12 leaves them from one batch to the next
    found = float(model.train_on_batch(X, Y, return_dict=True)["robust_loss"])
    clean = 9 if name == "clean_fraction" else 12  # of the twelve images
    mixed = np.concatenate([X[:clean], X[clean:] + 2.0])
    expected = cross_entropy(linear()(mixed).numpy(), Y).mean()
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_callback_changes_the_perturbation_while_training_goes_on():
    seen = []

    def noting(amount):
        def perturb(classifier, x, y):
            seen.append(amount)  # when it is traced
            return x + amount

        return perturb

    class Change(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.perturbation = noting(epoch)

    model = robust(None, noting(-1), GRAPH)
    fitted(model, X, Y, epochs=3, callbacks=[Change()])
    assert [amount for amount in dict.fromkeys(seen) if amount >= 0] == [0, 1, 2]


def test_a_schedule_sets_the_radius_of_each_epoch():
    pgd = attack(radius=0.1)
    schedule = lps.schedules.PiecewiseLinear([0, 2], [0.5, 2.5])
    radii = []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: radii.append(pgd.radius)
    )
    growing = lps.RadiusSchedule(pgd, schedule)
    fitted(robust(perturbation=pgd), X, Y, epochs=4, callbacks=[growing, note])
    assert radii == [0.5, 1.5, 2.5, 2.5]
    with pytest.raises(ValueError, match="positive at every epoch"):
        lps.RadiusSchedule(pgd, lps.schedules.PiecewiseLinear([0, 2], [0.0, 1.0]))


FIXED = {
    "LatentPGD": (attack, ("perturbation_set", "steps", "relative_step", "restarts")),
    "LatentAPGD": (lambda: lps.LatentAPGD(PixelBall()), ("perturbation_set", "seed")),
    "RandomSearch": (lambda: lps.RandomSearch(PixelBall()), ("restarts", "seed")),
    "SmoothedPGD": (
        lambda: lps.SmoothedPGD(PixelBall(), 0.5),
        ("num_samples", "steps", "seed"),
    ),
    "LatentNoise": (
        lambda: lps.LatentNoise(PixelBall(), 0.5),
        ("num_samples", "perturbation_set"),
    ),
    "LatentAugmentation": (lambda: lps.LatentAugmentation(PixelBall()), ("seed",)),
    "RobustClassifier": (robust, ("classifier", "ignore_class")),
    "Trades": (lps.objectives.Trades, ("beta",)),
    "Consistency": (lps.objectives.Consistency, ("weight", "entropy")),
}


@pytest.mark.parametrize("name", FIXED)
def test_what_cannot_change_says_so(name):
    make, names = FIXED[name]
    for attribute in names:
        with pytest.raises(AttributeError, match=f"Build another {name}"):
            setattr(make(), attribute, 1)


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan])
def test_numbers_that_are_none_are_refused(value):
    for make in (
        lambda: lps.LatentNoise(PixelBall(), value),
        lambda: attack(radius=value),
        lambda: lps.LatentAugmentation(PixelBall(), radius=value),
        lambda: setattr(attack(), "radius", value),
    ):
        with pytest.raises(ValueError, match="must be positive and finite"):
            make()


@pytest.mark.parametrize(
    "original",
    [attack(seed=3), lps.LatentNoise(PixelBall(), 0.5, seed=3)],
    ids=["attack", "noise"],
)
def test_a_copy_goes_on_as_the_original_and_shares_the_set(original):
    original(linear(), X, Y)  # so that it has taken a key already
    copied = copy.deepcopy(original)
    assert copied.perturbation_set is original.perturbation_set
    np.testing.assert_array_equal(copied(linear(), X, Y), original(linear(), X, Y))
    name = "radius" if hasattr(original, "radius") else "sigma"
    before = getattr(original, name)
    setattr(copied, name, 7.0)
    assert getattr(original, name) == before

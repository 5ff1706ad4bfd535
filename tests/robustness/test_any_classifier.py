"""Any Keras model, loss, metric and callback."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from tests.robustness.pixel_ball import SIZE, PixelBall, linear
from tests.robustness.users import (
    GRAPH,
    Subclassed,
    X,
    Y,
    attack,
    evaluated,
    fitted,
    robust,
    shift,
)

# Classifiers of every kind.


class NoXla(Subclassed):
    """A model with an operation that XLA has no form of."""

    def call(self, x, training=False):
        same = tf.numpy_function(lambda x: x, [x], tf.float32)
        return self.model(tf.ensure_shape(tf.stop_gradient(same - x) + x, x.shape))


@pytest.mark.slow
@pytest.mark.parametrize("make", [Subclassed, NoXla])
def test_any_keras_model_is_trained_and_attacked(make):
    expected = fitted(robust(linear(), attack(seed=1)), X, Y)
    known = attack(seed=1).run(linear(), X, Y)
    model = make()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        options = {"metrics": ["accuracy"], "jit_compile": True, **GRAPH}
        found = fitted(robust(model, attack(seed=1), options), X, Y)
        assert found == pytest.approx(expected, rel=1e-4)
        result = attack(seed=1).run(make(), X, Y)
    np.testing.assert_allclose(result.loss, known.loss, rtol=1e-4)
    told = [w for w in caught if "XLA cannot compile" in str(w.message)]
    assert len(told) == (2 if make is NoXla else 0)  # one for each model
    built = Subclassed()
    built(X)
    fitted(robust(built, compile_options={"metrics": ["accuracy"]}), X, Y)


def outputs_of(kind):
    x = keras.Input(SIZE)
    flat = keras.layers.Flatten()(x)
    one, two = keras.layers.Dense(3)(flat), keras.layers.Dense(3)(flat)
    if kind == "a row":
        return keras.Model(x, keras.layers.Reshape((1, 3))(one)), "must give logits"
    if kind == "a map of one pixel":
        return keras.Model(x, keras.layers.Reshape((1, 1, 3))(one)), "wrap it as"
    if kind == "dict":
        return keras.Model(x, {"a": one, "b": two}), "must have one output"
    return keras.Model(x, [one, two]), "must have one output"


@pytest.mark.parametrize("kind", ["list", "dict", "a row", "a map of one pixel"])
def test_one_message_for_outputs_that_are_no_logits(kind):
    model, message = outputs_of(kind)
    for use in (
        lambda: fitted(robust(model, attack()), X, Y),
        lambda: evaluated(robust(model), X, Y),
        lambda: attack().run(model, X, Y),
        lambda: attack()(model, X, Y),
        lambda: lps.WorstOfGroup().run(model, np.stack([X, X], 1), Y),
        lambda: lps.evaluate_robustness(model, (X, Y), verbose=False),
        lambda: lps.sanity_checks(model, PixelBall(), X, Y, radii=[1.0], verbose=False),
    ):
        with pytest.raises(ValueError, match=message):
            use()


def test_a_classifier_without_trainable_weights_is_evaluated_as_in_keras():
    frozen = linear()
    frozen.trainable = False
    before = frozen.get_weights()
    with pytest.warns(UserWarning, match="no trainable weights"):
        fitted(robust(frozen, attack()), X, Y)
    for one, other in zip(frozen.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


# Losses, metrics, callbacks.


def test_losses_of_one_hot_labels_smooth_them():
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.3)
    found = evaluated(robust(compile_options={"loss": loss}), X, Y)
    logits = linear()(X).numpy()
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -((0.7 * np.eye(3)[Y] + 0.1) * logs).sum(-1).mean()
    assert found["clean_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "metrics, names",
    [
        (None, set()),
        ([], set()),
        ("accuracy", {"clean_accuracy"}),
        (keras.metrics.CategoricalAccuracy(name="one_hot"), {"clean_one_hot"}),
    ],
)
def test_metrics_as_keras_takes_them(metrics, names):
    found = evaluated(robust(compile_options={"metrics": metrics}), X, Y)
    assert found.keys() == {"loss", "clean_loss"} | names
    accuracy = (linear()(X).numpy().argmax(-1) == Y).mean()
    for name in names:
        assert found[name] == pytest.approx(accuracy)


def test_metrics_of_one_probability_are_refused():
    for metric in ("binary_accuracy", keras.metrics.AUC()):
        with pytest.raises(ValueError, match="metrics` must be"):
            robust(compile_options={"metrics": [metric]})


@pytest.mark.parametrize(
    "monitor, mode",
    [
        ("val_robust_accuracy", "max"),
        ("val_clean_accuracy", "max"),
        ("val_robust_loss", "min"),
    ],
)
def test_callbacks_know_the_direction_of_every_metric(monitor, mode, tmp_path):
    stopping = keras.callbacks.EarlyStopping(monitor, patience=1)
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", monitor, save_best_only=True
    )
    model = robust(linear(), shift(0.1))
    fitted(model, X, Y, validation_data=(X, Y), callbacks=[stopping, best])
    assert stopping.mode == best.mode == mode


def test_what_comes_too_early_says_what_to_call_first(tmp_path):
    model = lps.RobustClassifier(linear())
    for use in (
        lambda: model.fit(X, Y),
        lambda: model.evaluate(X, Y),
        lambda: model.train_on_batch(X, Y),
    ):
        with pytest.raises(ValueError, match=r"Call `compile\(\)` before"):
            use()
    with pytest.raises(ValueError, match=r"Call `build\(\(None, height"):
        lps.RobustClassifier(Subclassed()).load_weights(tmp_path / "x.weights.h5")


@pytest.mark.parametrize("wrong", ["model.keras", None, Subclassed])
def test_what_is_no_model_is_named(wrong):
    uses = {
        "trained": lambda: lps.RobustClassifier(wrong),
        "attacked": lambda: attack(seed=1).run(wrong, X, Y),
        "smoothed": lambda: lps.SmoothedClassifier(wrong, PixelBall(), 0.5),
    }
    for use in uses.values():
        with pytest.raises(ValueError, match="`classifier` must be a Keras model") as e:
            use()
        assert f"Received: classifier={wrong!r}" in str(e.value)

"""Weights of examples, pixels and classes."""

import keras
import numpy as np
import pytest

from tests.robustness.pixel_ball import linear, pointwise
from tests.robustness.users import (
    FORMS,
    MAPS,
    X,
    Y,
    cross_entropy,
    dataset,
    evaluated,
    fitted,
    robust,
)

# Keras says so at the end of every generator, of its own models too.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Your input ran out of data"),
]


def keras_alone(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


WEIGHTS = np.linspace(0, 2, 12).astype(np.float32)


@pytest.mark.parametrize(
    "options",
    [{"sample_weight": WEIGHTS}, {"class_weight": {0: 3.0, 1: 0.0}}],
    ids=["sample_weight", "class_weight"],
)
def test_weights_are_those_of_keras(options):
    plain, model = keras_alone(linear()), robust()
    expected = fitted(plain, X, Y, epochs=2, **options)
    found = fitted(model, X, Y, epochs=2, **options)
    assert float(found["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-5)
    np.testing.assert_allclose(
        model.classifier.get_weights()[0], plain.get_weights()[0], atol=1e-6
    )
    one = robust().train_on_batch(X, Y, return_dict=True, **options)
    alone = keras_alone(linear()).train_on_batch(X, Y, return_dict=True, **options)
    assert float(one["loss"]) == pytest.approx(float(alone["loss"]), rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_weights_come_in_batches_too(form):
    expected = fitted(robust(), X, Y, sample_weight=WEIGHTS)
    found = fitted(robust(), FORMS[form](X, Y, WEIGHTS))
    assert found == pytest.approx(expected, rel=1e-5)
    by_class = {0: 3.0, 1: 0.0}
    expected = fitted(robust(), X, Y, class_weight=by_class)
    found = fitted(robust(), FORMS[form](X, Y), class_weight=by_class)
    assert found == pytest.approx(expected, rel=1e-5)


def test_weights_of_validation_and_evaluation():
    expected = evaluated(robust(), X, Y, sample_weight=WEIGHTS)
    plain = evaluated(keras_alone(linear()), X, Y, sample_weight=WEIGHTS)
    assert float(expected["loss"]) == pytest.approx(plain["loss"], rel=1e-5)
    assert evaluated(robust(), dataset(X, Y, WEIGHTS)) == pytest.approx(expected)
    model = robust()
    model.optimizer.learning_rate = 0.0
    for data in ((X, Y, WEIGHTS), dataset(X, Y, WEIGHTS)):
        found = fitted(model, X, Y, validation_data=data)
        assert found["val_loss"] == pytest.approx(float(expected["loss"]), rel=1e-5)


def test_maps_may_have_weights_by_pixel_and_by_class():
    by_class = {0: 2.0, 2: 0.0}
    weight = np.select([MAPS == 0, MAPS == 2], [2.0, 0.0], 1.0).astype(np.float32)
    model = robust(pointwise())
    losses = cross_entropy(pointwise()(X).numpy(), MAPS)
    expected = (weight * losses).mean()
    for options in ({"class_weight": by_class}, {"sample_weight": weight}):
        model = robust(pointwise())
        found = model.train_on_batch(X, MAPS, return_dict=True, **options)
        assert float(found["loss"]) == pytest.approx(expected, rel=1e-5)
    both = robust(pointwise()).train_on_batch(
        X, MAPS, sample_weight=WEIGHTS, class_weight=by_class, return_dict=True
    )
    expected = (WEIGHTS[:, None, None] * weight * losses).mean()
    assert float(both["loss"]) == pytest.approx(expected, rel=1e-5)


def test_weights_that_are_none_are_refused():
    for options, message in (
        ({"sample_weight": -WEIGHTS}, "at least 0"),
        ({"sample_weight": np.full(12, np.nan)}, "at least 0 and finite"),
        ({"sample_weight": np.ones((12, 4, 4))}, "must have the shape"),
        ({"sample_weight": WEIGHTS[:5]}, "equally many"),
        ({"class_weight": {3: 1.0}}, "classes 0 to 2 as keys"),
    ):
        with pytest.raises(ValueError, match=message):
            robust().train_on_batch(X, Y, **options)
    with pytest.raises(ValueError, match="weights count in losses alone"):
        robust(compile_options={"weighted_metrics": ["accuracy"]})

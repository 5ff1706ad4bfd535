"""A classifier or segmenter of one logit, trained and attacked."""

import keras
import numpy as np
import pytest

import lps_tf as lps
from tests.robustness.pixel_ball import linear, pointwise
from tests.robustness.users import TwoLogits, X, Y, attack, fitted, robust

pytestmark = pytest.mark.slow

ONE_LOGIT = {
    "logit": lambda: linear(1),
    "sigmoid": lambda: linear(1, "sigmoid"),
    "segmenter": lambda: pointwise(1),
}


@pytest.mark.parametrize("name", ONE_LOGIT)
def test_one_logit_is_trained_as_a_choice_between_two_classes(name):
    segments = name == "segmenter"
    y = (X[..., 0] > 0.5).astype(np.int64) if segments else Y % 2
    one = ONE_LOGIT[name]()
    plain = pointwise(1) if segments else linear(1)
    logs = fitted(robust(one, attack(seed=1)), X, y, epochs=2)
    expected = fitted(robust(TwoLogits(plain), attack(seed=1)), X, y, epochs=2)
    assert logs == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(one.get_weights()[0], plain.get_weights()[0], atol=1e-5)
    # Keras has labels of one logit with a last axis, as floats, and a loss for them.
    with_axis = y[..., None].astype(np.float32)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    again = robust(ONE_LOGIT[name](), attack(seed=1), {"loss": loss})
    assert fitted(again, X, with_axis, epochs=2) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ONE_LOGIT)
def test_one_logit_is_attacked_as_a_choice_between_two_classes(name):
    one = ONE_LOGIT[name]()
    logits = (one.layers[-1].kernel, one.layers[-1].bias)
    y = (one(X).numpy() > (0.5 if name == "sigmoid" else 0))[..., 0].astype(np.uint8)
    if name == "segmenter":
        pgd = attack(radius=3.0, steps=20)
        found, known = pgd.run(one, X, y), pgd.run(TwoLogits(one), X, y)
        np.testing.assert_allclose(found.loss, known.loss, rtol=1e-4)
        assert found.success.sum() > 0 and not attack().run(one, X, y).success.all()
        return
    # The nearest point of a plane is known.
    z = X.reshape(12, -1) @ logits[0].numpy()[:, 0] + logits[1].numpy()[0]
    distance = np.abs(z) / np.linalg.norm(logits[0])
    for radius in np.quantile(distance, [0.3, 0.7]):
        found = attack(steps=20, seed=2).run(one, X, y, [radius])
        np.testing.assert_array_equal(found.success[0], distance < radius)
    report = lps.evaluate_robustness(
        one,
        (X, y[:, None]),
        attack(steps=20),
        [float(np.median(distance))],
        verbose=False,
    )
    assert report.rows["clean"].accuracy == 1
    assert list(report.rows.values())[1].accuracy == pytest.approx(0.5)

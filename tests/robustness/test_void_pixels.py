"""Void pixels, which count in no loss, metric, success or accuracy."""

import keras
import numpy as np
import pytest

import lps_tf as lps
from tests.robustness.pixel_ball import PixelBall, pointwise
from tests.robustness.users import (
    MAPS,
    X,
    attack,
    cross_entropy,
    dataset,
    evaluated,
    fitted,
    robust,
    shift,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def void():
    """Label maps of 255 in a third of their pixels, and where they are labels."""
    valid = np.random.RandomState(2).uniform(size=MAPS.shape) > 0.35
    valid[0] = False  # an image without any label
    return np.where(valid, MAPS, 255).astype(np.uint8), valid


def test_void_pixels_count_in_no_loss_and_no_metric(void):
    maps, valid = void
    model = robust(
        pointwise(),
        shift(0.3),
        {"metrics": ["accuracy", "mean_iou"]},
        ignore_class=255,
    )
    for name, x in (("clean", X), ("robust", X + 0.3)):
        logits = model.classifier(x).numpy()
        found = evaluated(model, X, maps)
        losses = np.where(valid, cross_entropy(logits, MAPS), 0).sum((1, 2))
        loss = (losses / np.maximum(valid.sum((1, 2)), 1)).mean()
        assert found[f"{name}_loss"] == pytest.approx(loss, rel=1e-5)
        prediction = logits.argmax(-1)
        correct = (prediction == MAPS)[valid].mean()
        assert found[f"{name}_accuracy"] == pytest.approx(correct, rel=1e-5)
        both = [((prediction == k) & (k == MAPS))[valid].sum() for k in range(3)]
        either = [((prediction == k) | (k == MAPS))[valid].sum() for k in range(3)]
        iou = np.mean(np.divide(both, either))
        assert found[f"{name}_mean_iou"] == pytest.approx(iou, rel=1e-5)


@pytest.mark.parametrize("objective", [None, "Trades", "Mart", "PerturbedLoss"])
def test_what_is_under_void_pixels_does_not_matter(void, objective):
    maps, valid = void
    objective = objective and getattr(lps.objectives, objective)()
    weights = []
    for x in (X, np.where(valid[..., None], X, 1 - X)):
        # The segmenter looks at each pixel alone.
        model = robust(pointwise(), shift(0.2), objective=objective, ignore_class=255)
        fitted(model, x, maps, epochs=2)
        weights.append(model.classifier.get_weights()[0])
    np.testing.assert_allclose(*weights, atol=1e-6)
    assert not np.allclose(weights[0], pointwise().get_weights()[0], atol=1e-3)


def test_void_pixels_count_in_no_success_of_an_attack(void):
    maps, valid = void
    segment = pointwise()
    pgd = attack(radius=0.29, steps=5)
    result = pgd.run(segment, X, maps, ignore_class=255)
    assert not result.success[:, 0].any()  # of an image that is void as a whole
    logits = segment(PixelBall().perturb(X, result.u[0])).numpy()
    losses = np.where(valid, cross_entropy(logits, MAPS), 0).sum((1, 2))
    np.testing.assert_allclose(result.loss[0], losses, rtol=1e-4, atol=1e-5)
    wrong = ((logits.argmax(-1) != MAPS) | ~valid).all((1, 2)) & valid.any((1, 2))
    np.testing.assert_array_equal(result.success[0], wrong)
    report = lps.evaluate_robustness(
        segment, (X, maps), pgd, ignore_class=255, verbose=False
    )
    clean = segment(X).numpy().argmax(-1) == MAPS
    share = [clean[i][valid[i]].mean() for i in range(1, 12)]
    assert report.rows["clean"].accuracy == pytest.approx(np.mean(share), rel=1e-5)
    assert report.rows["clean"].n == 11
    checks = lps.sanity_checks(
        segment, PixelBall(), X, maps, radii=[0.3], steps=3, ignore_class=255,
        verbose=False,
    )  # fmt: skip
    assert checks.accuracy["random search"][0] <= np.mean(share) + 1e-6


def test_void_labels_are_refused_where_nobody_named_them(void):
    maps, _ = void
    segment = pointwise()
    group = np.stack([X, X], 1)
    model = robust(segment, attack())
    for use in (
        lambda: fitted(model, X, maps),
        lambda: fitted(model, dataset(X, maps)),
        lambda: fitted(model, X, MAPS, validation_data=(X, maps)),
        lambda: fitted(model, X, MAPS, validation_data=dataset(X, maps)),
        lambda: evaluated(model, X, maps),
        lambda: model.train_on_batch(X, maps),
        lambda: model.test_on_batch(X, maps),
        lambda: attack().run(segment, X, maps),
        lambda: lps.WorstOfGroup().run(segment, group, maps),
        lambda: lps.evaluate_robustness(segment, (X, maps), verbose=False),
        lambda: lps.sanity_checks(
            segment, PixelBall(), X, maps, radii=[1.0], verbose=False
        ),
    ):
        with pytest.raises(ValueError, match="pass it as `ignore_class`"):
            use()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    with pytest.raises(ValueError, match="pass `ignore_class` to the RobustClassifier"):
        robust(segment, compile_options={"loss": loss})

"""All that takes a set takes any: training, evaluation, certificates, export."""

import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from tests.contracts.any_sets import CASES, fast, images, latents, new_classifier


@pytest.fixture(params=fast("own", among=("own", "wrapped", "formula, then learned")))
def whole(request, tiny_set):
    """A set, images, labels of which the last is wrong, and a classifier."""
    case = CASES[request.param]
    x, classifier = images(case), new_classifier(case)
    y = np.argmax(classifier(x), -1)
    y[-1] = (y[-1] + 1) % 3
    return case.make(tiny_set), x, y, classifier


def test_evaluations_and_smoothed_attacks_take_it(whole):
    pset, x, y, classifier = whole
    attacks = (lps.LatentAPGD(pset, steps=4), lps.RandomSearch(pset, num_samples=3))
    for attack in attacks:
        report = lps.evaluate_robustness(
            classifier, (x, y), attack, radii=[0.5, 1.0], verbose=False
        )
        assert report.rows["clean"].accuracy == pytest.approx(5 / 6)
        worst = [report.rows[f"attack/{r}"].accuracy for r in ("0.5", "1")]
        assert worst[1] <= worst[0] <= 5 / 6
    noisy = lps.SmoothedPGD(pset, 0.3, steps=2)(classifier, x, y)
    assert noisy.shape == (2, *x.shape)


@pytest.mark.slow
def test_sanity_checks_take_it(whole):
    pset, x, y, classifier = whole
    report = lps.sanity_checks(
        classifier, pset, x, y, radii=[pset.radius], steps=4, verbose=False
    )
    passed = {check.name: check.passed for check in report.checks}
    assert passed["what is found is in the ball and as bad as reported"]


def test_a_classifier_trains_on_it(whole):
    pset, x, y, classifier = whole
    digest = pset.digest()
    for perturbation in (
        lps.LatentPGD(pset, steps=2),
        lps.LatentAugmentation(pset),
        lps.LatentNoise(pset, 0.5, num_samples=2),
    ):
        robust = lps.RobustClassifier(classifier, perturbation)
        robust.compile("sgd")
        history = robust.fit(x, y, batch_size=3, verbose=0).history
        assert np.isfinite(history["loss"]).all()
    assert pset.digest() == digest


@pytest.mark.slow
def test_a_data_set_is_certified_in_it_and_the_classifier_exported(whole, tmp_path):
    pset, x, y, classifier = whole
    smoothed = lps.SmoothedClassifier(classifier, pset, 0.3, batch_size=50)
    report = lps.certify_dataset(
        smoothed, (x, y), tmp_path / "certified", n0=20, n=100, verbose=False
    )
    assert report.settings["perturbation_set"] == pset.digest()
    assert report.acr >= 0 and "average certified radius" in str(report)
    assert report.plot(tmp_path / "pictures")
    loaded = tf.saved_model.load(lps.export(smoothed, tmp_path / "smoothed"))
    alpha = tf.constant(1e-3, tf.float64)
    found = loaded.certify(tf.constant(x), 20, 100, alpha, 0)
    np.testing.assert_array_equal(found["prediction"], report.prediction)
    np.testing.assert_allclose(found["radius"], report.radius, rtol=1e-6)


def test_an_exported_set_does_the_same(whole, tmp_path):
    pset, x, _, _ = whole
    loaded = tf.saved_model.load(lps.export(pset, tmp_path / "set"))
    u = tf.constant(latents(pset))
    np.testing.assert_allclose(
        loaded.perturb(tf.constant(x), u), pset.perturb(x, u), atol=1e-5
    )
    assert float(loaded.radius()) == pytest.approx(pset.radius)
    sampled = loaded.sample(tf.constant(x), tf.constant(pset.radius), 3)
    assert sampled.shape == x.shape
    assert hasattr(loaded, "encode") == isinstance(pset, lps.PerturbationSet)

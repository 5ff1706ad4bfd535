"""`.keras` files load that were saved when every module stood in the package's root.

They hold the names of the modules of that time; what counts is the registered name.
"""

import pathlib

import keras
import numpy as np
import pytest

SAVED = pathlib.Path(__file__).parents[1] / "golden" / "saved"


@pytest.fixture(scope="module")
def outputs():
    return dict(np.load(SAVED / "outputs.npz"))


def test_a_set_still_loads_with_its_outputs_radius_and_schedules(outputs):
    pset = keras.models.load_model(SAVED / "perturbation_set.keras")
    x, u = outputs["x"], outputs["u"]
    np.testing.assert_allclose(pset.perturb(x, u), outputs["perturbed"], atol=1e-5)
    encoded = pset.encode(x, outputs["x_perturbed"])
    np.testing.assert_allclose(encoded, outputs["encoded"], atol=1e-4)
    assert pset.radius == pytest.approx(float(outputs["radius"]))
    assert pset.beta.at(1) == 0.5 and pset.optimizer.iterations == 4
    # Compiled with its schedule, so that training goes on.
    pset.fit(x, outputs["x_perturbed"], batch_size=4, verbose=0)


def test_a_classifier_still_loads_with_its_outputs_and_metrics(outputs):
    robust = keras.models.load_model(SAVED / "robust_classifier.keras")
    np.testing.assert_allclose(robust(outputs["x"]), outputs["logits"], atol=1e-5)
    logs = robust.evaluate(outputs["x"], np.arange(4) % 3, verbose=0, return_dict=True)
    assert {"clean_accuracy", "clean_mean_iou"} <= set(logs)

"""What the pages of experiments say first, and last."""

import pytest

from lps_tf import experiments
from lps_tf.experiments import report


def row(accuracy, mean_iou=None):
    return {"accuracy": accuracy, "mean_iou": mean_iou, "n": 700}


ROWS = {
    "clean": row(0.95),
    "perturbed/mean": row(0.9),
    "perturbed/worst": row(0.6),
    "attack/0.5": row(0.8),
    "attack/2": row(0.4),
}


def test_a_classifier_is_summed_up_by_what_remains_correct():
    certified = {"radii": [0.0, 1.0, 2.0], "certified_accuracy": [0.9, 0.7, 0.3]}
    metrics = {"robustness": {"rows": ROWS}, "certified": {**certified, "images": 200}}
    first, second = report.summary(metrics)
    assert first == (
        "Of 700 images, 95.0% are classified correctly; truly perturbed, 90.0% on "
        "average and 60.0% at the worst of each image's versions. Under attack, 80.0% "
        "within radius 0.5 and 40.0% within radius 2 remain."
    )
    assert "70.0% of 200 are certified to be correct within radius 1" in second


def test_errors_under_corruptions_are_summed_up():
    errors = {"fog": [0.1, 0.2, 0.3, 0.4, 0.5], "snow": [0.3, 0.3, 0.3, 0.3, 0.3]}
    found = {"data": "x", "n": 700, "clean": 0.05, "errors": errors}
    metrics = {"robustness": {"rows": ROWS}, "corruptions": found}
    assert report.summary(metrics)[1] == (
        "Of 700 images, 30.0% are misclassified on average under 2 corruptions: 20.0% "
        "at severity 1 and 40.0% at severity 5, 5.0% without any."
    )


def test_a_segmenter_is_summed_up_by_its_pixels():
    rows = {"clean": row(0.5, 0.2), "attack/1": row(0.25, 0.1)}
    (only,) = report.summary({"robustness": {"rows": rows}})
    assert only == (
        "Of 700 images, 50.0% of pixels are classified correctly. Under attack, 25.0% "
        "within radius 1 remain."
    )


@pytest.mark.parametrize("pgd_ae, verdict", [(0.02, "most"), (0.04, "little")])
def test_a_set_is_summed_up_by_what_it_holds(pgd_ae, verdict):
    quality = {"pairs": 8, "pgd_ae": pgd_ae, "pair_mse": 0.06, "eae": 0.05, "oae": 0.1}
    first, second = report.summary({"quality": quality})
    assert f"within {pgd_ae:.4f}" in first and "0.0600 off" in first
    assert f"the set holds {verdict} of what happens" in first
    assert "0.0500" in second and "0.1000" in second


def test_the_commands_that_go_on_are_of_experiments():
    asked = {"experiment": "mnist_rts", "scale": "quick", "quality": {}}
    commands = report.afterwards(asked)
    names = [command.split()[4] for command in commands]
    assert "mnist_rts_classifier/smooth_adv" in names
    for name in names:
        assert experiments.find(name).settings("quick").predecessor == "mnist_rts"
    (command,) = report.afterwards({"experiment": "demo/plain", "scale": "laptop"})
    assert command == (
        "python -m lps_tf compare demo/plain demo/perturbed demo/robust --scale laptop"
    )

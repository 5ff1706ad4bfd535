import json
import subprocess
import sys

import pytest

from lps_tf.__main__ import main


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The quick demo, run as a user would."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    run_demo(folder)
    return folder


def run_demo(folder, *arguments):
    command = [sys.executable, "-m", "lps_tf", "demo", "--quick", "--output", folder]
    return subprocess.run(
        [*command, *arguments], check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.slow
def test_metrics_have_every_key(quick):
    metrics = json.loads((quick / "metrics.json").read_text())
    assert {"data", "scale", "seconds", "certified", "saved_models"} <= set(metrics)
    assert "scikit-learn" in metrics["data"] and metrics["scale"] == "quick"
    measures = {"reconstruction", "kl", "encoder_ae", "pgd_ae", "eae", "oae", "radius"}
    assert measures | {"norm_quantiles"} <= set(metrics["perturbation_set"])
    names = ["plain", "rts_augmented", "cvae_augmented", "cvae_adversarial", "noise"]
    assert list(metrics["classifiers"]) == names
    for result in metrics["classifiers"].values():
        assert set(result) == {"clean", "rts_mean", "rts_worst", "apgd"}
        assert result["rts_worst"] <= result["rts_mean"]
        radii = [float(radius) for radius in result["apgd"]]
        assert radii == sorted(radii) and len(radii) == 4
    certified = metrics["certified"]
    fractions = list(certified["accuracy_at"].values())
    assert fractions == sorted(fractions, reverse=True)
    assert {"sigma", "n", "alpha", "abstained"} <= set(certified)
    # Even a quick set obeys the order of its errors.
    measures = metrics["perturbation_set"]
    assert measures["pgd_ae"] <= measures["encoder_ae"]


@pytest.mark.slow
def test_report_is_one_self_contained_page(quick):
    page = (quick / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 6
    assert "http" not in page and "viewport" in page
    assert "digits (scikit-learn" in page and "quick run" in page
    assert page.count("alt=") == 6 and 'alt=""' not in page


@pytest.mark.slow
def test_saved_models_agreed_in_a_fresh_process(quick):
    metrics = json.loads((quick / "metrics.json").read_text())
    differences = metrics["saved_models"]["largest_difference_after_reload"]
    assert differences["perturbed"] < 1e-5 and differences["prediction"] == 0
    for name in metrics["saved_models"]["folders"]:
        assert (quick / "saved_models" / name / "saved_model.pb").exists()


@pytest.mark.slow
def test_second_run_resumes_and_a_lost_stage_is_done_again(quick):
    before = json.loads((quick / "metrics.json").read_text())
    (quick / "stages" / "evaluate_plain.json").unlink()
    output = run_demo(quick)
    assert "learn: done before" in output
    assert "evaluate_plain: done before" not in output
    after = json.loads((quick / "metrics.json").read_text())
    assert after["classifiers"] == before["classifiers"]


def test_folder_of_other_settings_is_an_error(tmp_path, capsys):
    (tmp_path / "settings.json").write_text('{"scale": "other"}')
    assert main(["demo", "--quick", "--output", str(tmp_path)]) == 2
    assert "--fresh" in capsys.readouterr().err

import html
import json
import re

import pytest

from lps_tf.__main__ import main
from lps_tf.experiments import demo


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The quick demo."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    assert main(["demo", "--quick", "--output", str(folder)]) == 0
    return folder


# The main job from end to end.


@pytest.mark.essential
def test_from_pairs_to_a_robust_certified_exported_classifier(quick):
    metrics = json.loads((quick / "metrics.json").read_text())
    assert "MNIST, 5,000 images" in metrics["data"] and metrics["scale"] == "quick"
    assert metrics["seconds"] == sum(metrics["seconds_by_experiment"].values())
    learned, *classifiers = metrics["experiments"].values()
    # Even a quick set obeys the order of its errors.
    quality = learned["quality"]
    assert quality["pgd_ae"] <= quality["encoder_ae"] and quality["radius"] > 0
    for result in classifiers:
        rows = result["robustness"]["rows"]
        assert rows["perturbed/worst"]["accuracy"] <= rows["perturbed/mean"]["accuracy"]
        assert result["resolved"]["radii"] == [0.5, 1, 1.5, 2]
        attacks = [row["accuracy"] for name, row in rows.items() if "attack" in name]
        assert attacks == sorted(attacks, reverse=True) and len(attacks) == 4
    certified = classifiers[-1]["certified"]
    assert certified["images"] == 4 and certified["settings"]["sigma"] == 1.25
    assert certified["coverage"]["perturbations"] == 4 * 10
    # The SavedModels agreed in a process that cannot import the package.
    differences = metrics["largest_difference_after_reload"]
    assert differences["perturbed"] < 1e-5 and differences["prediction"] == 0
    for name in demo.EXPORTED:
        assert (quick / name / "saved_model" / "saved_model.pb").exists()


@pytest.mark.essential
def test_the_report_is_one_self_contained_page(quick):
    page = (quick / "report.html").read_text()
    # Four of the set, one that compares the classifiers, one of certificates.
    assert page.count("data:image/png;base64,") == page.count("alt=") == 6
    assert "http" not in page and "viewport" in page and 'alt=""' not in page
    title = page[page.index("<title>") : page.index("</title>")]
    assert "quick scale" in title and "MNIST, 5,000 images" in title
    assert "too short for its\nfigures to mean anything" in page
    assert "Of 40 true perturbations" in page
    assert 'href="explorer.html"' in page
    explorer = (quick / "explorer.html").read_text()
    assert "MNIST, 5,000 images" in explorer
    # The name of SVG's elements is an address, and the only one.
    assert set(re.findall(r"\w+://[^\"' ]+", explorer)) == {
        "http://www.w3.org/2000/svg"
    }
    for name in ("demo/plain", "demo/perturbed", "demo/robust"):
        assert f'href="{name}/report.html"' in page and (quick / name).is_dir()


@pytest.mark.essential
def test_the_page_begins_with_what_came_out(quick):
    found = json.loads((quick / "metrics.json").read_text())["experiments"]
    rows = {name: m.get("robustness", {}).get("rows") for name, m in found.items()}
    page = html.unescape((quick / "report.html").read_text())
    first, second, third = demo.summary(found)
    assert page.index("</h1>") < page.index(f"<p>{first} {second} {third}</p>")
    assert f"within {found['demo/set']['quality']['pgd_ae']:.4f}" in first
    for line in ("perturbed/mean", "attack/1"):
        for name in ("robust", "plain", "perturbed"):
            share = rows[f"demo/{name}"][line]["accuracy"]
            assert f"{round(100 * share)}%" in second
    certified = found["demo/robust"]["certified"]
    share = certified["certified_accuracy"][certified["radii"].index(1.5)]
    assert f"within radius 1.5 on {round(100 * share)}% of 4 digits" in third


@pytest.mark.essential
def test_second_run_resumes_and_a_lost_stage_is_done_again(quick, capsys):
    before = json.loads((quick / "metrics.json").read_text())
    (quick / "demo/robust/stages/evaluate.json").unlink()
    assert main(["demo", "--quick", "--output", str(quick)]) == 0
    output = capsys.readouterr().out
    assert "learn: done before" in output and "reload: done before" in output
    assert "train: done before\nevaluate\n" in output
    after = json.loads((quick / "metrics.json").read_text())
    for name, metrics in after["experiments"].items():
        same = before["experiments"][name]
        assert metrics.get("robustness") == same.get("robustness")


def test_folder_of_other_settings_is_an_error(tmp_path, capsys):
    (tmp_path / "settings.json").write_text('{"scale": "other"}')
    assert main(["demo", "--quick", "--output", str(tmp_path)]) == 2
    assert "--fresh" in capsys.readouterr().err


@pytest.mark.essential
def test_seeds_are_compared_in_folders_of_their_own_and_with_one_set(quick, capsys):
    options = ["--scale", "quick", "--seeds", "2", "--output", str(quick)]
    assert main(["compare", "demo/plain", *options]) == 0
    assert "mean of 2 seeds" in capsys.readouterr().out
    first, second = (
        json.loads((quick / "demo" / name / "metrics.json").read_text())
        for name in ("plain", "plain-seed1")
    )
    assert (first["settings"]["seed"], second["settings"]["seed"]) == (0, 1)
    assert first["last"]["loss"] != second["last"]["loss"]
    folders = {path.name for path in (quick / "demo").iterdir()}
    assert folders == {"set", "plain", "perturbed", "robust", "plain-seed1"}

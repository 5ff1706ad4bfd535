import json

import numpy as np
import pytest

from lps_tf import experiments
from lps_tf.experiments import comparison, running
from lps_tf.experiments.comparison import compare, estimate


def test_intervals_hold_the_true_accuracy_nineteen_times_out_of_twenty():
    # Each image has a probability of being right; each training moves all of them.
    random, truth, held = np.random.RandomState(0), 0.7, []
    n, seeds, runs = 200, 3, 2000
    for _ in range(runs):
        image = np.where(random.uniform(size=n) < 0.5, 0.9, 0.5)
        accuracies = []
        for move in random.normal(0, 0.03, seeds):
            correct = random.uniform(size=n) < np.clip(image + move, 0, 1)
            accuracies.append(correct.mean())
        mean, low, high = estimate(accuracies, n)
        assert low <= mean <= high
        held.append(low <= truth <= high)
    assert np.mean(held) > 0.95 - 3 * np.sqrt(0.05 * 0.95 / runs)


def test_the_interval_is_never_narrower_than_that_of_either_source():
    alone = estimate([0.8, 0.8, 0.8], 100)
    wilson = comparison.wilson_interval(0.8, 100)
    assert (alone.low, alone.high) == pytest.approx(wilson)
    many = estimate([0.7, 0.8, 0.9], 10**9)
    # Student's: 4.303 * 0.1 / sqrt(3).
    assert many.mean - many.low == pytest.approx(0.2484, abs=1e-4)
    assert estimate([0.0, 1.0], 10)[1:] == (0.0, 1.0)


def metrics(seed, training, data="digits"):
    accuracies = {"clean": 0.9, "perturbed/draw 1": 0.5, "perturbed/mean": 0.8}
    rows = {
        line: {"accuracy": value - 0.01 * seed, "n": 50}
        for line, value in accuracies.items()
    }
    found = {"data": data, "robustness": {"rows": rows}, "resolved": {"radii": [1.0]}}
    if training == "robust":
        rates = {"radii": [0.0, 0.7, 1.0], "certified_accuracy": [0.9, 0.6, 0.5]}
        found["certified"] = {"images": 20, **rates}
    return found


@pytest.fixture
def asked(monkeypatch):
    """Runs that are not run; what was asked for."""
    calls = []

    def run(name, scale, output, *, data_dir, seed, verbose):
        calls.append((name, scale, seed))
        data = "photographs" if name.startswith("cifar") else "digits"
        return metrics(seed, name.rsplit("/", 1)[-1], data)

    monkeypatch.setattr(running, "run", run)
    return calls


def test_it_runs_every_seed_and_averages(asked, tmp_path):
    names = ["demo/plain", "demo/robust"]
    found = compare(names, "quick", tmp_path, seeds=2)
    assert asked == [(name, "quick", seed) for name in names for seed in (0, 1)]
    plain, robust = found.accuracy.values()
    assert plain["clean"] == estimate([0.9, 0.89], 50)
    assert set(plain) == {"clean", "perturbed/mean"}  # no single draws
    assert robust["certified/1"] == estimate([0.5, 0.5], 20)
    text = (tmp_path / "comparisons/demo.md").read_text()
    assert "digits: accuracy in percent of 50 test images, mean of 2 seeds" in text
    assert "| | plain | robust |" in text and "| certified 1 |  | 50.0 (" in text
    written = json.loads((tmp_path / "comparisons/demo.json").read_text())
    assert written == found.to_dict()
    assert written["accuracy"]["demo/plain"]["clean"]["mean"] == pytest.approx(0.895)


def test_corruptions_are_compared_with_plain_training(monkeypatch, tmp_path):
    errors = {"plain": ([0.2] * 5, [0.4] * 5), "prime": ([0.1] * 5, [0.3] * 5)}

    def run(name, scale, output, *, data_dir, seed, verbose):
        fog, snow = errors[name.rsplit("/", 1)[1]]
        found = metrics(seed, "plain", "clothes")
        fog = [e * (1 + seed) for e in fog]
        of = {"data": "clothes", "n": 50, "clean": 0.1}
        return {**found, "corruptions": {**of, "errors": {"fog": fog, "snow": snow}}}

    monkeypatch.setattr(running, "run", run)
    family = "fashion_corrupted_classifier"
    names = [f"{family}/{name}" for name in ("prime", "plain")]
    found = compare(names, "quick", tmp_path, seeds=2)
    # Of each seed, the mean of 0.1 / 0.2 and 0.3 / 0.4.
    assert found.corruption_error[names[0]] == pytest.approx([0.625, 0.625])
    assert found.corruption_error[names[1]] == [1, 1]
    assert found.accuracy[names[0]]["severities/mean"] == estimate([0.8, 0.75], 50)
    assert "| mean corruption error | 62.5 | 100.0 |" in str(found)
    assert "| severities mean | 77.5 (" in str(found)
    assert compare(names[:1], "quick", tmp_path, seeds=2).corruption_error == {}


def test_experiments_of_two_families_keep_their_whole_names(asked, tmp_path):
    settings = experiments.find("demo/plain").settings("quick")
    names = ["demo/plain", "mnist_rts_classifier/plain"]
    assert settings.data == experiments.find(names[1]).settings("quick").data
    assert "| | demo/plain | mnist_rts_classifier/plain |" in str(
        compare(names, "quick", tmp_path, seeds=2)
    )
    assert (tmp_path / "comparisons/demo+mnist_rts_classifier.md").exists()


@pytest.mark.parametrize(
    "names, seeds, message",
    [
        ([], 3, "`names` must be of experiments that train classifiers"),
        (["demo/set"], 3, "`names` must be of experiments that train classifiers"),
        (["demo/none"], 3, "must be one of"),
        (["demo/plain"], 1, "`seeds` must be"),
        (["demo/plain", "cifar10c_classifier/plain"], 2, "must have the same data"),
    ],
)
def test_bad_input_is_named(asked, tmp_path, names, seeds, message):
    with pytest.raises(ValueError, match=message):
        compare(names, "quick", tmp_path, seeds=seeds)
    assert asked == []
    assert not (tmp_path / "comparisons").exists()

"""Running experiments at small sizes: every stage, and what an interruption leaves."""

import csv
import dataclasses
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import norm

import lps_tf as lps
from lps_tf import experiments
from lps_tf._internal import files
from lps_tf.experiments import EXPERIMENTS, changed, report, running, training

#: Of classifiers of a few patches of photographs.
PATCHES = {
    "options": {"patches": (3, 2, 2)},
    "sizes": {"filters": (4,), "units": 8},
    "batch_size": 8,
}
SMALL = {
    "cifar10c_from_original": {
        "options": {"pairing": "from_original", "patches": (3, 2, 2)},
        "sizes": {"latent_dim": 3, "blocks": 1, "wide": 4, "narrow": 2},
        "batch_size": 8,
        "epochs": 2,
        "steps": 2,
        "num_samples": 1,
        "limit": 8,
    },
    "cifar10c_classifier/adversarial": {
        **PATCHES,
        "epochs": 1,
        "attack_steps": 1,
        "steps": 2,
        "limit": 5,
    },
    "cifar10c_classifier/mixture": PATCHES,
    "cifar10c_classifier/smoothing_50": {
        **PATCHES,
        "epochs": 1,
        "steps": 1,
        "limit": 3,
        "n0": 10,
        "n": 50,
    },
    "cifar10c_classifier/augmix": {
        **PATCHES,
        "epochs": 1,
        "steps": 1,
        "limit": 3,
    },
    "mi_segmentation/smoothing": {
        "options": {"height": 16, "width": 24, "train": 4, "val": 1, "test": 1},
        "sizes": {"channels": (2, 4)},
        "batch_size": 2,
        "epochs": 1,
        "steps": 1,
        "limit": 1,
        "n0": 4,
        "n": 20,
    },
}
#: Sizes of the networks of `untrained_sets`.
SIZES = {
    "cifar10c_from_original": {"latent_dim": 3, "blocks": 1, "wide": 4, "narrow": 2},
    "mi_mip5": {"channels": (2, 4), "latents": (2, 1), "pool": ((4, 6), (2, 3))},
}


def untrained_sets(monkeypatch):
    """Puts small sets that have learned nothing where others build on some."""
    learn = running.run_set

    def run_set(run, settings, *rest):
        name = run.directory.name
        if name not in SIZES:
            return learn(run, settings, *rest)
        pset = lps.PerturbationSet.from_network(settings.network, **SIZES[name])
        pset.build((None, 32, 32, 3))
        pset.radius = 2.0
        pset.calibration = {"quantiles": {"50%": 1.0, "75%": 1.5, "max": 2.0}}
        files.atomically(run / training.MODEL, pset.save)
        (run / "log.csv").write_text("epoch,loss\n0,1\n")
        return {"data": "none", "steps": 0, "parameters": 0, "last": {}}

    monkeypatch.setattr(running, "run_set", run_set)


@pytest.fixture(scope="module", autouse=True)
def small():
    """Puts the small sizes into the table, for as long as these tests run."""
    with pytest.MonkeyPatch.context() as patch:
        for name, changes in SMALL.items():
            row = EXPERIMENTS[name]
            laptop = dataclasses.asdict(changed(row.settings("laptop"), **changes))
            patch.setitem(EXPERIMENTS, name, dataclasses.replace(row, laptop=laptop))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("experiments")


def run(name, folder, **options):
    return experiments.run(
        name, "laptop", folder / "out", data_dir=folder / "data", **options
    )


@pytest.fixture(scope="module")
def learned(folder):
    return run("cifar10c_from_original", folder)


def pages(folder, name):
    return (folder / "out" / name / "report.html").read_text()


@pytest.mark.slow
def test_a_set_is_learned_measured_and_exported(learned, folder):
    here = folder / "out" / "cifar10c_from_original"
    assert (
        json.loads((here / "metrics.json").read_text())["quality"]
        == (learned["quality"])
    )
    assert learned["data"] == "photo patches (scikit-image), corrupted"
    assert learned["steps"] == 2 * (33 // 8) and learned["scale"] == "laptop"
    pset = keras.models.load_model(here / "models/model.keras")
    # 2 patches of 11 photographs, each with 12 corruptions.
    assert pset.calibration["pairs"] == 2 * 11 * 12
    assert pset.radius == learned["quality"]["radius"]
    assert pset.radius == pytest.approx(pset.calibration["quantiles"]["max"])
    assert learned["quality"]["pairs"] == 8
    loaded = tf.saved_model.load(here / "saved_model")
    assert loaded.radius().numpy() == pytest.approx(pset.radius)
    log = list(csv.DictReader((here / "log.csv").read_text().splitlines()))
    assert [row["epoch"] for row in log] == ["0", "1"]
    assert float(log[1]["val_loss"]) == pytest.approx(learned["last"]["val_loss"])
    assert not (here / "backup").exists()


@pytest.mark.slow
def test_the_report_names_the_data_and_holds_its_pictures(learned, folder):
    page = pages(folder, "cifar10c_from_original")
    assert "photo patches (scikit-image), corrupted" in page
    assert "stand in for CIFAR-10" in page and "laptop scale" in page
    assert page.count("data:image/png;base64,") == page.count("alt=") == 5
    assert "http" not in page
    # Figures are not the paper's, so its own are shown at its scale alone.
    column = "<th>the paper's</th>"
    assert column not in page
    metrics = {**learned, "published": {"pgd_ae": 0.1234}}
    published = report.page(
        {"a": (folder / "out/cifar10c_from_original", metrics)}, "a title"
    )
    assert column in published and published.count("0.1234") == 1
    # Settings beside the paper's: epochs 2 and 1000.
    assert "<td>epochs</td><td>2</td><td>1000</td>" in page


@pytest.mark.slow
def test_an_adversarial_classifier_builds_on_the_set(learned, folder, capsys):
    result = run("cifar10c_classifier/adversarial", folder)
    assert "learn" not in capsys.readouterr().out
    resolved = result["resolved"]
    quantiles = learned["calibration"]["quantiles"]
    assert resolved["radii"] == [quantiles[q] for q in ("25%", "50%", "75%")]
    assert resolved["radius"] == quantiles["max"] and resolved["sigma"] is None
    rows = result["robustness"]["rows"]
    assert rows["clean"]["n"] == 5 and "certified" not in result
    attacks = [row for row in rows if row.startswith("attack/")]
    assert len(attacks) == 3
    accuracies = [rows[row]["accuracy"] for row in ("clean", *attacks)]
    assert accuracies == sorted(accuracies, reverse=True)
    assert len([row for row in rows if row.startswith("perturbed/")]) == 12 + 2
    assert {"unseen/spatter", "unseen/saturate", "unseen/worst"} <= set(rows)
    page = pages(folder, "cifar10c_classifier/adversarial")
    assert len(re.findall(r"data:image/png;base64,\w", page)) == 3
    corruptions = result["corruptions"]
    assert len(corruptions["errors"]) == 15 and corruptions["n"] == 5
    assert corruptions["clean"] == pytest.approx(1 - rows["clean"]["accuracy"])
    errors = list(corruptions["errors"].values())
    assert corruptions["mean_error"] == pytest.approx(np.mean(errors))
    assert "5 images" in page and "at severity 5" in page
    assert "on the worst members of the learned set" in page
    loaded = tf.saved_model.load(
        folder / "out/cifar10c_classifier/adversarial/saved_model"
    )
    assert loaded.serve(tf.zeros((1, 32, 32, 3))).shape == (1, 11)


@pytest.mark.slow
def test_of_a_mixture_of_true_corruptions_a_quarter_is_attacked(
    learned, folder, monkeypatch
):
    class Begun(Exception):
        pass

    def train(run, settings, make, data, *rest, **options):
        raise Begun(make(), data)

    loaded, load = [], training.load
    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(
        training, "load", lambda *args: loaded.append(load(*args)) or loaded[-1]
    )
    with pytest.raises(Begun) as caught:
        run("cifar10c_classifier/mixture", folder)
    robust, batches = caught.value.args
    assert batches is loaded[0].train_perturbed
    x, y = next(iter(batches))
    perturbed = robust._perturbed(x, y, training=True)[0].numpy()
    untouched = (perturbed == x.numpy()).all((1, 2, 3))
    assert untouched.tolist() == [True] * 6 + [False] * 2


@pytest.mark.slow
def test_a_baseline_is_trained_and_attacked_in_the_same_set(learned, folder):
    result = run("cifar10c_classifier/augmix", folder)
    assert np.isfinite(result["last"]["loss"])
    # The loss on the images, and twelve times a divergence that is never negative.
    assert result["last"]["loss"] > result["last"]["clean_loss"]
    rows = result["robustness"]["rows"]
    assert rows["perturbed/mean"]["n"] == 3
    assert len([row for row in rows if row.startswith("attack/")]) == 3
    assert result["corruptions"]["n"] == 3
    assert "predict AugMix" in pages(folder, "cifar10c_classifier/augmix")


@pytest.mark.slow
def test_smoothing_certifies(learned, folder):
    result = run("cifar10c_classifier/smoothing_50", folder)
    certified = result["certified"]
    assert certified["images"] == 3 and certified["settings"]["n"] == 50
    assert certified["settings"]["sigma"] == result["resolved"]["sigma"]
    # 50 samples that all agree certify the median norm, and with the randomised bound
    # up to what a probability of 2^(-1/50) has.
    median = learned["calibration"]["quantiles"]["50%"]
    sigma = result["resolved"]["sigma"]
    alpha = result["settings"]["alpha"]
    assert sigma * norm.ppf(alpha ** (1 / 50)) == pytest.approx(median)
    rates = zip(certified["radii"], certified["certified_accuracy"], strict=True)
    largest = max((radius for radius, rate in rates if rate), default=0)
    assert largest <= sigma * norm.ppf(2 ** (-1 / 50)) * (1 + 1e-6)
    assert pages(folder, "cifar10c_classifier/smoothing_50").count("alt=") == 4


@pytest.mark.slow
def test_a_segmenter_is_certified_pixel_by_pixel(folder, monkeypatch):
    untrained_sets(monkeypatch)
    result = run("mi_segmentation/smoothing", folder)
    rows = result["robustness"]["rows"]
    lights = [row for name, row in rows.items() if name.startswith("perturbed/light")]
    assert len(lights) == 24
    for measure, over_all in result["robustness"]["all_versions"].items():
        found = [row[measure] for row in (rows["clean"], *lights)]
        assert over_all == pytest.approx(sum(found) / 25)
    assert result["certified"]["settings"]["correction"] == "holm"
    assert result["resolved"]["radii"] == [1.0, 1.5, 2.0]
    assert "<th>mean IoU</th>" in pages(folder, "mi_segmentation/smoothing")


# Interruptions, and other settings.

TINY = {
    "epochs": 4,
    "sizes": {"latent_dim": 2, "units": 4},
    "steps": 1,
    "num_samples": 1,
    "limit": 128,
}


@pytest.mark.slow
@pytest.mark.parametrize("when", ["in epoch 3", "before saving"])
def test_an_interrupted_training_goes_on(tmp_path, monkeypatch, when):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if when == "in epoch 3":
            patch.setattr(
                training.EpochBar,
                "on_epoch_begin",
                lambda self, epoch, logs=None: interrupt() if epoch == 2 else None,
            )
        else:
            patch.setattr(training.files, "atomically", interrupt)
        with pytest.raises(KeyboardInterrupt):
            experiments.run("mnist_linf_fc", "laptop", tmp_path, changes=TINY)
    result = experiments.run("mnist_linf_fc", "laptop", tmp_path, changes=TINY)
    log = training.read_log(tmp_path / "mnist_linf_fc/log.csv")
    assert [epoch for epoch, _ in log["loss"]] == [1, 2, 3, 4]
    losses = [loss for _, loss in log["loss"]]
    assert losses == sorted(losses, reverse=True)
    model = tmp_path / "mnist_linf_fc/models/model.keras"
    optimizer = keras.models.load_model(model).optimizer
    assert int(optimizer.iterations) == result["steps"] == 4 * (4000 // 128)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_training_that_diverges_stops_at_that_epoch(tmp_path, loss):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.build((None, 1))
    callbacks = [
        keras.callbacks.LambdaCallback(on_epoch_end=training.require_finite),
        lps.Backup(tmp_path / "backup", keep=True),
    ]
    with pytest.raises(ValueError, match=rf"diverged: the loss of epoch 1 is {loss}"):
        model.fit(
            np.ones((2, 1)), np.full((2, 1), loss), verbose=0, callbacks=callbacks
        )
    assert not list(tmp_path.glob("backup/*.keras"))


def test_an_epoch_that_was_logged_twice_counts_once(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss,val_loss\n0,5,NA\n1,4,4.5\n1,3,3.5\n2,2,NA\n")
    log = training.read_log(path)
    assert log == {"loss": [(1, 5), (2, 3), (3, 2)], "val_loss": [(2, 3.5)]}


def test_results_of_other_settings_are_refused(tmp_path):
    class Started(Exception):
        pass

    def load(*_):
        (tmp_path / "mnist_linf_fc" / "log.csv").touch()  # of a training that has begun
        raise Started

    def run(**changes):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "load", load)
            experiments.run("mnist_linf_fc", "laptop", tmp_path, changes=changes)

    with pytest.raises(Started):
        run(seed=1)
    with pytest.raises(Started):
        run(seed=1)
    for changes in ({"seed": 2}, {}):
        with pytest.raises(ValueError, match=r"other settings.*--fresh"):
            run(**changes)


@pytest.mark.slow
def test_a_set_may_start_from_another_ones_weights(tmp_path, monkeypatch):
    # As mi_mip4 does from mi_mip5, with networks that are fast.
    first = EXPERIMENTS["mnist_linf_fc"]
    first = dataclasses.replace(first, laptop={**first.laptop, **TINY})
    paper = dataclasses.replace(first.paper, start="mnist_linf_fc")
    second = dataclasses.replace(first, paper=paper)
    monkeypatch.setitem(EXPERIMENTS, "mnist_linf_fc", first)
    monkeypatch.setitem(EXPERIMENTS, "second", second)
    started = []
    train = training.train

    def noted(run, settings, make, *rest, **options):
        def made():
            model = make()
            started.append(model.get_weights() if model.built else None)
            return model

        return train(run, settings, made, *rest, **options)

    monkeypatch.setattr(training, "train", noted)
    result = experiments.run("second", "laptop", tmp_path)
    assert started[0] is None and len(started) == 2
    expected = keras.models.load_model(tmp_path / "mnist_linf_fc" / training.MODEL)
    for ours, theirs in zip(started[1], expected.get_weights(), strict=True):
        assert (ours == theirs).all()
    now = keras.models.load_model(tmp_path / "second" / training.MODEL)
    assert now.radius != expected.radius  # calibrated anew
    assert result["builds_on"] == "mnist_linf_fc"
    text = (tmp_path / "second/report.html").read_text()
    assert "It builds on mnist_linf_fc" in text
    # Another start is another setting.
    other = dataclasses.replace(first, laptop={**first.laptop, "seed": 1})
    monkeypatch.setitem(EXPERIMENTS, "mnist_linf_fc", other)
    with pytest.raises(ValueError, match="second holds results of other settings"):
        experiments.run("second", "laptop", tmp_path)


# Models to give away.


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["cifar10c_from_original", "cifar10c_classifier/smoothing_50"]
)
def test_a_model_is_published_with_a_card_and_examples(learned, folder, name):
    path = experiments.publish(
        name,
        "laptop",
        folder / "out",
        directory=folder / "published",
        data_dir=folder / "data",
    )
    assert path == folder / "published" / name.replace("/", "-")
    card = json.loads((path / "card.json").read_text())
    metrics = json.loads((folder / "out" / name / "metrics.json").read_text())
    text = (path / "README.md").read_text()
    assert "photo patches (scikit-image)" in text and "stands in for CIFAR-10" in text
    assert card["command"] == f"python -m lps_tf publish {name} --scale laptop"
    assert card["command"] in text and card["seed"] == 0
    assert card["steps"] == metrics["steps"]
    # What it says of the examples is so.
    loaded = tf.saved_model.load(path)
    with np.load(path / "examples.npz") as arrays:
        x, y = arrays["x"], arrays["y"]
    assert len(x) == card["examples"]["images"] == 8
    assert set(card["signatures"]) == set(loaded.signatures)
    if name == "cifar10c_from_original":
        assert card["signatures"]["perturb"]["inputs"] == {
            "u": "float32 [-1, 3]",
            "x": "float32 [-1, 32, 32, 3]",
        }
        assert card["radius"] == metrics["calibration"]["radius"]
        assert card["metrics"]["pgd_ae"] == metrics["quality"]["pgd_ae"]
        error = np.mean((loaded.perturb(x, loaded.encode(x, y)) - y) ** 2)
        assert card["examples"]["encoder_ae"] == pytest.approx(error, rel=1e-4)
        preset = lps.PerturbationSet.from_preset(path)
        u = np.ones((len(x), 3), np.float32)
        np.testing.assert_allclose(
            preset.perturb(x, u), loaded.perturb(x, u), atol=1e-5
        )
    else:
        assert card["sigma"] == metrics["resolved"]["sigma"]
        assert card["metrics"]["certified"]["images"] == 3
        found = loaded.certify(x, 10, 100, 0.05, 0)["prediction"].numpy()
        assert card["examples"]["certified_accuracy"] == np.mean(found == y)

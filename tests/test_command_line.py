"""Commands of `python -m lps_tf` that have no test file of their own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import lps_tf as lps
from lps_tf.__main__ import main

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Files of a set and a classifier of digits, not trained."""
    folder = tmp_path_factory.mktemp("models")
    shape = lps.datasets.digits_rts().image_shape
    pset = lps.PerturbationSet.from_network(
        "mnist_stn", latent_dim=4, transformers=1, localisation=(8, 4)
    )
    pset.build((None, *shape))
    pset.save(folder / "set.keras")
    keras.utils.set_random_seed(1)
    classifier = lps.networks.classifiers.small_cnn(shape, 10, filters=(4,), units=8)
    classifier.save(folder / "classifier.keras")
    return [str(folder / "classifier.keras"), str(folder / "set.keras")]


def certify(models, output, *more):
    options = ["--sigma", "0.5", "--data", "digits_rts", "--output", str(output)]
    options += ["--n0", "10", "--n", "60", "--limit", "6", "--images-per-file", "2"]
    return main(["certify", *models, *options, *more])


@pytest.mark.slow
def test_shares_are_merged_to_what_one_run_certifies(models, tmp_path, capsys):
    assert certify(models, tmp_path / "whole") == 0
    assert "digits (scikit-learn" in capsys.readouterr().out
    shares = [tmp_path / "one", tmp_path / "two"]
    for i, share in enumerate(shares, 1):
        assert certify(models, share, "--shard", f"{i}/2") == 0
    assert main(["merge", str(shares[0]), "--output", str(tmp_path / "half")]) == 2
    assert "missing" in capsys.readouterr().err
    assert main(["merge", *map(str, shares), "--output", str(tmp_path / "all")]) == 0
    whole = lps.CertificationReport.load(tmp_path / "whole")
    merged = lps.CertificationReport.load(tmp_path / "all")
    assert merged.images == 6
    for name in ("index", "labels", "prediction", "radius", "samples"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(whole, name))
    report = json.loads((tmp_path / "all" / "report.json").read_text())
    assert report == json.loads(whole.to_json())


@pytest.mark.parametrize(
    "more, message",
    [
        (["--data", "mnist"], "--data must be one of lps_tf.datasets. Received: mnist"),
        (["--option", "colour=red"], "--option: .*'colour'"),
        (["--shard", "5/4"], "5/4"),
        (["--sigma", "0"], "`sigma` must be positive"),
    ],
)
def test_certify_names_bad_input(models, tmp_path, capsys, more, message):
    assert certify(models, tmp_path / "out", *more) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert not (tmp_path / "out").exists()


ANSWERED_AT_ONCE = {
    "help": (["--help"], 0, "import-original"),
    "list": (["list"], 0, "mnist_linf_fc:"),
    "a wrong experiment": (["run", "imagenet"], 2, "must be one of these"),
    "a wrong model": (["publish", "imagenet"], 2, "must be one of these"),
    "a wrong command": (["paint"], 2, "invalid choice: 'paint'"),
}


@pytest.mark.parametrize("case", ANSWERED_AT_ONCE)
def test_what_needs_no_tensorflow_does_not_import_it(case):
    arguments, code, text = ANSWERED_AT_ONCE[case]
    command = [sys.executable, "-X", "importtime", "-m", "lps_tf", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == code
    assert text in result.stdout + result.stderr
    imported = set(re.findall(r"\| +([\w.]+)$", result.stderr, re.MULTILINE))
    assert "lps_tf" in imported
    assert not imported & {"keras", "tensorflow", "matplotlib", "scipy"}


@pytest.mark.essential
def test_the_package_starts_quietly_and_without_what_few_need():
    code = (
        "import sys, lps_tf, tensorflow as tf; print(float(tf.reduce_sum(tf.ones(3)))"
    )
    code += ", *{'torch', 'tensorflow_datasets'} & {*sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"},
        capture_output=True,
        text=True,
    )
    assert (result.stdout, result.stderr) == ("3.0\n", "")


def test_list_names_every_experiment(capsys):
    from lps_tf import experiments

    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for name in experiments.EXPERIMENTS:
        assert f"{name}:" in out


def test_run_names_bad_input(tmp_path, capsys):
    assert main(["run", "imagenet", "--output", str(tmp_path)]) == 2
    assert "must be one of these: mnist_linf_fc" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["run", "mnist_rts", "--scale", "moon"])

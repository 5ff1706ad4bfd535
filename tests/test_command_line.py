"""Commands of `python -m lps_tf` that have no test file of their own."""

import json
import re

import keras
import numpy as np
import pytest

import lps_tf as lps
from lps_tf.__main__ import main


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
    ("more", "message"),
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

"""Commands of `python -m lps_tf` that have no test file of their own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lps_tf as lps
from lps_tf.__main__ import main
from tests import small_models

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Files of a set and a classifier of digits, not trained."""
    return small_models.save(tmp_path_factory.mktemp("models"))


def certify(models, output, *more):
    options = ["--sigma", "0.5", "--data", "mnist5k_rts", "--output", str(output)]
    options += ["--n0", "10", "--n", "60", "--limit", "6", "--images-per-file", "2"]
    return main(["certify", *models, *options, *more])


@pytest.mark.slow
def test_shares_are_merged_to_what_one_run_certifies(models, tmp_path, capsys):
    assert certify(models, tmp_path / "whole") == 0
    assert "MNIST, 5,000 images" in capsys.readouterr().out
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
        (["--data", "mnist_rt"], "`--data` must be one of .* Did you mean 'mnist_rts'"),
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


def test_certify_names_files_in_each_others_place(models, tmp_path, capsys):
    assert certify(models[::-1], tmp_path / "out") == 2
    assert "CLASSIFIER must be the file of a classifier" in capsys.readouterr().err
    assert certify(models[:1] * 2, tmp_path / "out") == 2
    assert "SET must be the file of a perturbation set" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_presets_stand_for_files(tmp_path, capsys):
    page = tmp_path / "page.html"
    command = ["explore", "mnist_rts", "--data", "mnist5k_rts", "--output", str(page)]
    classifier = ["--classifier", "mnist_rts_classifier-smooth_adv"]
    assert main([*command, *classifier, "--images", "1"]) == 0
    assert "MNIST, 5,000 images" in page.read_text()
    capsys.readouterr()
    assert main([*command, "--classifier", "mnist_rts"]) == 2
    assert "This is the preset of a PerturbationSet" in capsys.readouterr().err
    assert main(["explore", "mnist_rtx", *command[2:]]) == 2
    assert "A preset must be a folder, a name" in capsys.readouterr().err


def test_every_option_says_what_it_is_and_its_default(capsys):
    with pytest.raises(SystemExit):
        main(["certify", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "samples, at most (default: 10000)" in text
    assert "risk of a wrong certificate (default: 0.001)" in text
    assert "None" not in text


def test_a_reader_that_stops_is_no_error():
    command = f"{sys.executable} -m lps_tf list | head -n 1"
    result = subprocess.run(
        command, shell=True, cwd=ROOT, capture_output=True, text=True
    )
    assert result.stdout.startswith("mnist_linf_fc:")
    assert result.stderr == ""


INTERRUPTED = """
import sys

class Interrupt:  # as if Ctrl-C was pressed while TensorFlow is imported
    def find_spec(self, name, *_):
        if name == "tensorflow":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
sys.argv = ["lps-tf"]
from lps_tf.__main__ import main
sys.exit(main(["demo"]))
"""


def test_an_interrupt_while_tensorflow_is_imported_is_said_in_a_line():
    result = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 130
    assert result.stderr == "\nInterrupted. Run the same command to go on.\n"


def test_a_run_that_has_come_to_nothing_leaves_no_folder(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    output = tmp_path / "runs" / "paper"
    command = ["run", "mnist_linf_fc", "--scale", "paper", "--output", str(output)]
    assert main([*command, "--data-dir", str(tmp_path / "data")]) == 2
    assert "download" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


ANSWERED_AT_ONCE = {
    "help": (["--help"], 0, "import-original"),
    "list": (["list"], 0, "mnist_linf_fc:"),
    "version": (["--version"], 0, f"lps_tf {lps.__version__}"),
    "a family": (["list", "mnist_rts_limited"], 0, "mnist_rts_limited/k5:"),
    "no family": (["list", "imagenet"], 2, "`family` must be one of"),
    "a wrong experiment": (["run", "mnist_rtx"], 2, "Did you mean 'mnist_rts'?"),
    "an experiment's family": (
        ["run", "mnist_rts_limited"],
        2,
        "name one of mnist_rts_limited/k1, mnist_rts_limited/k5.",
    ),
    "a wrong model": (["publish", "imagenet"], 2, "must be one of"),
    "a wrong command": (["certfy"], 2, "Did you mean 'certify'?"),
    "a missing file": (["merge", "nowhere", "--output", "x"], 2, "there is no nowhere"),
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
        "import sys, lps_tf; lps_tf.sets; import tensorflow as tf; "
        "print(float(tf.reduce_sum(tf.ones(3)))"
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
    assert "`name` must be one of ['cifar10c_among_" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["run", "mnist_rts", "--scale", "moon"])

"""The models that come with the package, as somebody without the package uses them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from lps_tf.experiments import PUBLISHED
from lps_tf.experiments.publishing import CERTIFIED_WITH

ROOT = Path(__file__).parents[2] / "saved_models"
FOLDERS = [name.replace("/", "-") for name in PUBLISHED]

#: TensorFlow alone: the program of a card, and more of what it has found.
PROGRAM = """
import json, re, sys
sys.modules["lps_tf"] = None  # importing it would fail
for path in sys.argv[1:]:
    names = {}
    text = open(path + "/README.md").read()
    exec(re.search("```python\\n(.*?)```", text, re.DOTALL)[1].replace("print", "id"), names)
    model, found = names["model"], names.get("found")
    result = {name: float(value) for name, value in names["figures"].items()}
    if "encoder_ae" in result:
        result["radius"] = float(model.radius())
    if "mean_radius" in result:
        found = {name: value.numpy() for name, value in found.items()}
        loose = (found["radius"] > 0) & (found["prediction"] < 0)
        result["loose"] = bool(loose.any())
    print(json.dumps(result))
"""  # noqa: E501


def cards():
    return [json.loads((ROOT / f / "card.json").read_text()) for f in FOLDERS]


def test_there_is_a_folder_for_each_and_they_are_small():
    assert sorted(p.name for p in ROOT.iterdir() if p.is_dir()) == sorted(FOLDERS)
    size = sum(p.stat().st_size for p in ROOT.rglob("*") if p.is_file())
    assert size <= 60e6


@pytest.mark.parametrize("card", cards(), ids=FOLDERS)
def test_cards_say_what_it_is_and_how_to_make_it(card):
    assert card["name"] in PUBLISHED and card["scale"] == "laptop"
    assert card["command"] == f"python -m lps_tf publish {card['name']} --scale laptop"
    digits = card["data"].startswith("MNIST, 5,000 images")
    stand_ins = (None,) if digits else ("CIFAR-10", "Multi-Illumination")
    assert card["stands_in_for"] in stand_ins
    assert card["steps"] > 0 and isinstance(card["seed"], int)
    text = (ROOT / card["folder"] / "README.md").read_text()
    for fact in (card["data"], card["stands_in_for"] or "", card["command"]):
        assert fact in text
    assert f"- Images: {card['image_shape'][0]}x{card['image_shape'][1]} with" in text
    assert ", ".join(card.get("class_names", ())) in text
    certified = card["metrics"].get("certified")
    if certified:
        numbers = "n0 = {n0}, n = {n} and alpha = {alpha}".format(**certified)
        assert f"of {certified['images']} test images, with {numbers}" in text
        assert "with n0 = 10, n = 100, alpha = 0.05, seed = 0:" in text
    for signature in card["signatures"]:
        assert f"| {signature} |" in text
    measured = card["metrics"]
    if "encoder_ae" in measured:
        # The set explains most of what happened to the test images; but noise of its
        # own in each pixel is more than a latent can say. Eight examples are too few
        # for that: those of photographs happen to be mild corruptions.
        share = 1 if card["name"] == "mnist_linf_conv" else 0.5
        assert measured["encoder_ae"] < share * measured["pair_mse"]


@pytest.mark.slow
def test_each_does_what_its_card_says_with_tensorflow_alone():
    paths = [str(ROOT / folder) for folder in FOLDERS]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *paths],
        capture_output=True,
        text=True,
        cwd=ROOT.parent,  # as the programs name the folders
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = map(json.loads, done.stdout.splitlines())
    for card, result in zip(cards(), results, strict=True):
        examples, name = card["examples"], card["name"]
        if "encoder_ae" in result:
            assert result["radius"] == pytest.approx(card["radius"], rel=1e-5), name
            assert result["encoder_ae"] == pytest.approx(examples["encoder_ae"], 1e-3)
            assert result["encoder_ae"] < result["pair_mse"], name
        elif "certified_accuracy" in result:
            assert examples["certified_with"] == CERTIFIED_WITH, name
            # A draw at a boundary may fall either way on another machine.
            found = result["certified_accuracy"]
            assert found == pytest.approx(examples["certified_accuracy"], abs=0.13)
            assert result["mean_radius"] == pytest.approx(
                examples["mean_radius"], rel=0.1
            )
            assert not result["loose"] and found > 0.3, name
        else:
            found = result["accuracy"]
            assert found == pytest.approx(examples["accuracy"], abs=0.01), name
            assert found > 0.3, name


@pytest.mark.slow
@pytest.mark.parametrize("card", cards(), ids=FOLDERS)
def test_the_preset_is_the_model_of_the_saved_model(card):
    folder, kind = ROOT / card["folder"], card["kind"]
    loaded = tf.saved_model.load(folder)
    with np.load(folder / "examples.npz") as arrays:
        x, y = arrays["x"], arrays["y"]
    if kind == "PerturbationSet":
        pset = lps.PerturbationSet.from_preset(card["folder"])
        u = np.random.RandomState(0).randn(len(x), pset.latent_dim).astype(np.float32)
        np.testing.assert_allclose(pset.perturb(x, u), loaded.perturb(x, u), atol=1e-5)
        np.testing.assert_allclose(pset.encode(x, y), loaded.encode(x, y), atol=1e-4)
        assert pset.radius == pytest.approx(card["radius"], rel=1e-6)
        assert pset.calibration["quantiles"] == card["quantiles"]
    elif kind == "RobustClassifier":
        robust = lps.RobustClassifier.from_preset(card["folder"])
        np.testing.assert_allclose(robust(x), loaded.serve(x), atol=1e-5)
    else:
        smooth = lps.SmoothedClassifier.from_preset(card["folder"])
        assert smooth.sigma == card["sigma"]
        ours = smooth.certify(x[:4], n0=5, n=20, alpha=0.05, verbose=False)
        theirs = loaded.certify(x[:4], 5, 20, 0.05, 0)
        assert ours.p_lower.max() > 0
        # A sample at a boundary may be counted differently. The bound of these saved
        # models was the usual one of Clopper and Pearson, which is never larger.
        certain = theirs["prediction"].numpy() >= 0
        same = ours.prediction == theirs["prediction"].numpy()
        assert same[certain].sum() >= 0.99 * certain.sum()
        for name in ("p_lower", "radius"):
            larger = getattr(ours, name) >= theirs[name].numpy() - 1e-6
            assert larger.mean() > 0.99, name

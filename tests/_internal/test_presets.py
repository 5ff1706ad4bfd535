"""Presets: folders of models to give away, and the names by which they are found."""

import json
import sys
import types

import keras
import numpy as np
import pytest

import lps_tf as lps
from lps_tf._internal import presets
from lps_tf.sets.parametric import Brightness


def assert_same_set(ours, theirs, images):
    u = np.random.RandomState(0).randn(len(images), theirs.latent_dim)
    u = u.astype(np.float32)
    # Not `perturb`, which XLA would compile for each of them.
    a, b = (pset.decode(pset.condition(images), u) for pset in (ours, theirs))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(
        ours.encode(images, images[:, ::-1]), theirs.encode(images, images[:, ::-1])
    )
    assert ours.radius == theirs.radius and ours.calibration == theirs.calibration


def test_what_trained_it_is_no_part_of_a_preset(tmp_path):
    pset = lps.PerturbationSet.from_network(
        "mnist_stn", latent_dim=2, transformers=1, localisation=(4,)
    )
    pset.build((None, 12, 12, 1))
    pset.compile(keras.optimizers.Adam())
    pset.save_to_preset(tmp_path)
    assert pset.compiled
    assert not lps.PerturbationSet.from_preset(tmp_path).compiled


def test_a_set_and_its_card(tiny_set, images, tmp_path):
    path = tiny_set.save_to_preset(tmp_path / "rain", {"data": "my car's camera"})
    assert path == tmp_path / "rain"
    loaded = lps.PerturbationSet.from_preset(path)
    assert type(loaded) is lps.PerturbationSet and not loaded.compiled
    assert_same_set(loaded, tiny_set, images)
    # A plain file of Keras, too.
    assert_same_set(keras.models.load_model(path / "set.keras"), tiny_set, images)
    card = json.loads((path / "card.json").read_text())
    assert card["data"] == "my car's camera" and card["radius"] == 2.0
    assert card["image_shape"] == [12, 12, 1] and card["latent_dim"] == 4
    assert card["parameters"] == tiny_set.count_params()
    text = (path / "README.md").read_text()
    assert "- data: my car's camera" in text and "- radius: 2\n" in text
    assert 'lps.PerturbationSet.from_preset("rain")' in text


def test_writing_again_keeps_what_else_is_there(tiny_set, tmp_path):
    tiny_set.save_to_preset(tmp_path, {"license": "MIT"})
    (tmp_path / "saved_model.pb").write_bytes(b"of somebody else")
    tiny_set.radius = 3.0
    tiny_set.save_to_preset(tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["license"] == "MIT" and card["radius"] == 3.0
    assert lps.PerturbationSet.from_preset(tmp_path).radius == 3.0
    assert (tmp_path / "saved_model.pb").read_bytes() == b"of somebody else"


def test_a_classifier(tiny_classifier, images, tmp_path):
    robust = lps.RobustClassifier(tiny_classifier, ignore_class=2)
    robust.save_to_preset(tmp_path, {"class_names": ["rain", "snow", "dust"]})
    loaded = lps.RobustClassifier.from_preset(tmp_path)
    np.testing.assert_array_equal(loaded(images), tiny_classifier(images))
    assert loaded.ignore_class == 2
    assert json.loads((tmp_path / "card.json").read_text())["image_shape"] == [
        12,
        12,
        1,
    ]
    assert "rain" in (tmp_path / "README.md").read_text()


def test_a_smoothed_classifier(tiny_set, tiny_classifier, images, tmp_path):
    options = {"batch_size": 20, "correction": "bonferroni", "seed": 3}
    smooth = lps.SmoothedClassifier(tiny_classifier, tiny_set, 0.5, **options)
    smooth.save_to_preset(tmp_path)
    loaded = lps.SmoothedClassifier.from_preset(tmp_path)
    for name in ("sigma", *options):
        assert getattr(loaded, name) == getattr(smooth, name)
    np.testing.assert_array_equal(loaded.classifier(images), tiny_classifier(images))
    assert_same_set(loaded.perturbation_set, tiny_set, images)


def test_a_smoothed_classifier_over_a_set_of_a_formula(tiny_classifier, tmp_path):
    pset = Brightness((12, 12, 1), 0.3)
    lps.SmoothedClassifier(tiny_classifier, pset, 0.5).save_to_preset(tmp_path)
    loaded = lps.SmoothedClassifier.from_preset(tmp_path)
    assert loaded.perturbation_set.digest() == pset.digest()
    assert not (tmp_path / "set.keras").exists()

    class Own(Brightness):  # not registered with Keras
        pass

    own = lps.SmoothedClassifier(tiny_classifier, Own((12, 12, 1), 0.3), 0.5)
    with pytest.raises(ValueError, match="register_keras_serializable"):
        own.save_to_preset(tmp_path / "own")


@pytest.mark.slow
def test_weights_may_be_those_of_the_saved_model(tiny_set, images, tmp_path):
    path = lps.export(tiny_set, tmp_path / "set")
    before = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    presets.write_beside_saved_model(path, "PerturbationSet", {"set": tiny_set}, {})
    after = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    assert after < before + 10_000
    assert_same_set(lps.PerturbationSet.from_preset(path), tiny_set, images)
    other = lps.PerturbationSet.from_config(tiny_set.get_config())
    other.build((None, 12, 12, 1))
    with pytest.raises(ValueError, match="must hold all weights of `set`"):
        presets.write_beside_saved_model(path, "PerturbationSet", {"set": other}, {})


def test_a_set_may_be_that_of_another_preset_beside(
    tiny_set, tiny_classifier, images, tmp_path
):
    tiny_set.save_to_preset(tmp_path / "rain")
    path = lps.export(tiny_classifier, tmp_path / "smooth")
    models = {"classifier": tiny_classifier, "set": "rain"}
    arguments = {"sigma": 0.5}
    presets.write_beside_saved_model(path, "SmoothedClassifier", models, arguments)
    loaded = lps.SmoothedClassifier.from_preset(path)
    assert_same_set(loaded.perturbation_set, tiny_set, images)
    np.testing.assert_array_equal(loaded.classifier(images), tiny_classifier(images))


def test_names_are_those_of_the_checkout(monkeypatch, tmp_path, tiny_set):
    assert (presets.folder("mnist_rts") / "saved_model.pb").exists()
    # As the table of experiments has them.
    assert (
        presets.folder("mi_segmentation/smoothing").name == "mi_segmentation-smoothing"
    )
    with pytest.raises(
        FileNotFoundError, match=r"in this checkout there are.*mnist_rts"
    ):
        lps.PerturbationSet.from_preset("mnist_rtz")
    monkeypatch.setattr(presets, "PUBLISHED", tmp_path / "site-packages/saved_models")
    with pytest.raises(FileNotFoundError, match="clone its repository"):
        lps.PerturbationSet.from_preset("mnist_rts")


def test_the_hub(monkeypatch, tmp_path, tiny_set, images):
    tiny_set.save_to_preset(tmp_path / "downloaded")
    asked = []

    def snapshot_download(repo_id):
        asked.append(repo_id)
        return str(tmp_path / "downloaded")

    hub = types.ModuleType("huggingface_hub")
    hub.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    loaded = lps.PerturbationSet.from_preset("hf://somebody/rain-v1.0")
    assert asked == ["somebody/rain-v1.0"]
    assert_same_set(loaded, tiny_set, images)
    for address in ("hf://somebody", "hf://a/b/c", "hf:/a/b", "hf://../b c"):
        with pytest.raises(ValueError, match="must be 'hf://user/name'"):
            lps.PerturbationSet.from_preset(address)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="pip install huggingface_hub"):
        lps.PerturbationSet.from_preset("hf://somebody/rain")


def test_errors(tiny_set, tiny_classifier, tmp_path):
    lps.export(tiny_classifier, tmp_path / "alone")
    with pytest.raises(FileNotFoundError, match=r"must hold the file preset\.json"):
        lps.RobustClassifier.from_preset(tmp_path / "alone")
    lps.RobustClassifier(tiny_classifier).save_to_preset(tmp_path / "classifier")
    with pytest.raises(ValueError, match=r"use `RobustClassifier\.from_preset`"):
        lps.PerturbationSet.from_preset(tmp_path / "classifier")
    fresh = lps.PerturbationSet.from_network("mnist_stn", latent_dim=4)
    with pytest.raises(ValueError, match="not seen an image"):
        fresh.save_to_preset(tmp_path / "fresh")
    unbuilt = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="not seen an image"):
        lps.RobustClassifier(unbuilt).save_to_preset(tmp_path / "fresh")
    assert not (tmp_path / "fresh").exists()

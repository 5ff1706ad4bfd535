"""The paper's settings as far as the first training step, on data in the real formats.

Data are tiny, networks and schedules the paper's, unless a test says otherwise.
"""

import math

import keras
import pytest
import tensorflow_datasets as tfds

from lps_tf import experiments
from lps_tf.experiments import training
from tests.datasets.published_scenes import FOLDERS, write_scene
from tests.datasets.test_photographs import images_with_labels, prepare
from tests.experiments.test_runs import untrained_sets

tfds.disable_progress_bar()
WARNING = "ignore:.*scenes of Multi-Illumination are in"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    label = tfds.features.ClassLabel(num_classes=10)
    for name, shape, n in (("mnist", (28, 28, 1), 240), ("cifar10", (32, 32, 3), 100)):
        features = {"image": tfds.features.Image(shape=shape), "label": label}
        splits = {
            split: images_with_labels(count, shape, 10, seed=count)
            for split, count in (("train", n), ("test", 12))
        }
        if name == "cifar10":
            features["id"] = tfds.features.Text()
            for split, part in splits.items():
                part["id"] = [f"{split}_{i}" for i in range(len(part["label"]))]
        prepare(name, features, splits, folder)
    for scene in FOLDERS:
        write_scene(folder / "downloads" / "manual" / scene)
    return folder


class FirstStep(Exception):
    """Ends a run after the first step."""


@pytest.fixture
def first_step(tmp_path, data_dir, monkeypatch):
    """Runs an experiment so far; gives the model and its logs."""

    def stop(bar, batch, logs=None):
        raise FirstStep(bar.model, logs)

    monkeypatch.setattr(training.EpochBar, "on_train_batch_end", stop, raising=False)

    def first_step(name, **changes):
        with pytest.raises(FirstStep) as reached:
            experiments.run(name, "paper", tmp_path, data_dir=data_dir, changes=changes)
        model, logs = reached.value.args
        assert int(model.optimizer.iterations) == 1 and logs["loss"] > 0
        return model

    return first_step


def rate(model):
    """Of the second step, by the optimizer's schedule."""
    return float(model.optimizer.learning_rate)


# 240 training images leave 236, one batch of 128 an epoch; 100 leave 98, in batches of
# 2 it is 49. The schedules' epochs and rates are in the paper.


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, latent_dim, expected",
    [
        ("mnist_linf_fc", 784, 1e-3 * 2 / 10),
        ("mnist_linf_conv", 7 * 7 * 128, 1e-3),
        ("mnist_rts_limited/k1", 128, 8e-4 * 2 / 40),
    ],
)
def test_digits(first_step, name, latent_dim, expected):
    model = first_step(name)
    assert model.latent_dim == latent_dim
    assert rate(model) == pytest.approx(expected)
    assert model.likelihood_name == "bernoulli"
    assert isinstance(model.optimizer, keras.optimizers.Adam)


@pytest.mark.slow
def test_corrupted_photographs(first_step):
    model = first_step("cifar10c_with_original", batch_size=2)
    assert model.latent_dim == 512 and model.likelihood_name == "gaussian"
    assert rate(model) == pytest.approx(1e-3 * 2 / 49 / 400)
    assert (model.beta.at(200), model.beta.final) == (0.005, 0.01)


@pytest.mark.slow
def test_a_classifier_of_photographs(first_step, monkeypatch):
    untrained_sets(monkeypatch)
    model = first_step("cifar10c_classifier/perturbed", batch_size=2)
    weights = sum(math.prod(w.shape) for w in model.classifier.trainable_variables)
    assert weights == 36_479_194  # of WideResNet-28-10, as the literature has it
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert rate(model) == pytest.approx(0.2 * 2 / 49 / 40)


@pytest.mark.slow
@pytest.mark.filterwarnings(WARNING)
def test_scenes_with_small_networks(first_step, monkeypatch):
    untrained_sets(monkeypatch)
    # The networks of the paper need 4 GB for one step.
    model = first_step("mi_mip4", batch_size=1)
    assert rate(model) == pytest.approx(2.5e-5 + 2.25e-4 / 40)
    assert model.latent_dim == 3 and model.beta.final == 1
    sizes = {"channels": (2, 4)}
    model = first_step("mi_segmentation/all_lights", batch_size=1, sizes=sizes)
    assert model.classifier.output_shape[-1] == 36
    assert rate(model) == pytest.approx(0.01 / 160)
    assert {m.name for m in model.metrics} >= {"clean_accuracy", "clean_mean_iou"}


@pytest.mark.parametrize(
    "name, data, stand_in",
    [
        ("mnist_rts", "mnist", "mnist5k_rts"),
        ("cifar10c_classifier/plain", "cifar10", "photos"),
        ("mi_mip3", "Multi-Illumination", "scenes"),
    ],
)
def test_missing_data_are_named(tmp_path, monkeypatch, name, data, stand_in):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"(?s){data}.*stand-in: {stand_in}"):
        experiments.run(name, "paper", tmp_path / "out", data_dir=tmp_path / "data")

"""What runs without TensorFlow gives the same outputs: ONNX and LiteRT."""

import importlib
import importlib.util
import pathlib

import keras
import numpy as np
import pytest

import lps_tf as lps
from lps_tf.networks import classifiers
from lps_tf.sets.parametric import Brightness

TARGETS = {
    "onnx": (".onnx", ("tf2onnx", "onnxruntime")),
    "litert": (".tflite", ("ai_edge_litert",)),
}


def run_onnx(path, inputs):
    session = importlib.import_module("onnxruntime").InferenceSession(path)
    assert [i.name for i in session.get_inputs()] == list(inputs)
    (output,) = session.run(["output_0"], inputs)
    return output


def run_litert(path, inputs):
    litert = importlib.import_module("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(model_path=str(path))
    (name,) = interpreter.get_signature_list()
    run = interpreter.get_signature_runner(name)
    assert name == ("perturb" if "u" in inputs else "serve")
    # It takes one image at a time.
    rows = zip(*inputs.values(), strict=True)
    one = (dict(zip(inputs, row, strict=True)) for row in rows)
    return np.stack(
        [run(**{k: v[None] for k, v in row.items()})["output_0"][0] for row in one]
    )


@pytest.fixture(params=TARGETS)
def run(request, tmp_path):
    """Exports a model, and runs it on inputs without TensorFlow."""
    ending, packages = TARGETS[request.param]
    missing = [p for p in packages if importlib.util.find_spec(p) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install 'lps_tf[export]'")

    def exported(model, inputs, **options):
        path = tmp_path / f"model{ending}"
        assert lps.export(model, path, request.param, **options) == path
        assert [p.name for p in tmp_path.iterdir()] == [path.name]
        return {"onnx": run_onnx, "litert": run_litert}[request.param](path, inputs)

    return exported


def random_images(*shape):
    return np.random.RandomState(1).uniform(size=(3, *shape)).astype(np.float32)


def shaken(model, scale):
    """The weights of a network that is not at its start, where maps are zero."""
    random = np.random.RandomState(0)
    for weight in model.trainable_variables:
        weight.assign_add(random.normal(0, scale, weight.shape))
    return model


def test_a_classifier(run, tiny_classifier, images):
    logits = run(lps.RobustClassifier(tiny_classifier), {"x": images})
    np.testing.assert_allclose(logits, tiny_classifier(images), atol=1e-4)


def test_one_logit_stands_for_two(run, images):
    layers = [keras.Input((12, 12, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    z = model(images).numpy()
    logits = run(model, {"x": images})
    np.testing.assert_allclose(logits, np.concatenate([0 * z, z], 1), atol=1e-4)


@pytest.mark.slow
def test_constants_of_a_normalisation_are_no_inputs(run):
    model = classifiers.wide_resnet((16, 16, 3), 5, depth=10, width=1)
    x = random_images(16, 16, 3)
    logits = run(shaken(model, 0.02), {"x": x})
    np.testing.assert_allclose(logits, model(x), atol=1e-4)


@pytest.mark.slow
def test_a_segmenter_of_any_size_at_one_size(run):
    model = classifiers.Unet(3, channels=(4, 8, 8))
    model.build((None, 18, 27, 3))
    x = random_images(18, 27, 3)
    logits = run(shaken(model, 0.02), {"x": x}, image_shape=(18, 27, 3))
    np.testing.assert_allclose(logits, model(x), atol=1e-4)


def test_a_set_of_a_formula(run, images):
    pset = Brightness((12, 12, 1), 0.3)
    u = np.float32([[-1.5], [-1], [0], [0.5], [1], [3]])
    got = run(pset, {"x": images, "u": u})
    np.testing.assert_allclose(got, pset.perturb(images, u), atol=1e-4)


NETWORKS = {
    "mnist_fc": ((28, 28, 1), {"latent_dim": 8, "units": 16}),
    "mnist_conv": ((12, 12, 1), {"filters": (4, 8), "latent_channels": 2}),
    "mnist_stn": (
        (12, 12, 1),
        {"latent_dim": 4, "transformers": 2, "localisation": (16, 8)},
    ),
    "cifar10_residual": (
        (32, 32, 3),
        {"latent_dim": 4, "blocks": 1, "wide": 8, "narrow": 4},
    ),
    "mi_unet": (
        (18, 27, 3),
        {"channels": (4, 8), "latents": (4, 2), "pool": ((9, 13), (4, 6))},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_each_network_of_a_set(run, network):
    shape, sizes = NETWORKS[network]
    pset = lps.PerturbationSet.from_network(network, **sizes)
    pset.build((None, *shape))
    shaken(pset, 0.05)
    x = random_images(*shape)
    u = np.random.RandomState(2).randn(3, pset.latent_dim).astype(np.float32)
    options = {"image_shape": shape} if None in pset.image_shape else {}
    got = run(pset, {"x": x, "u": u}, **options)
    want = pset.perturb(x, u).numpy()
    np.testing.assert_allclose(got, want, atol=1e-4)
    # And u counts.
    assert np.abs(want - pset.perturb(x, 0 * u)).max() > 1e-3


def test_errors(tiny_set, tiny_classifier, tmp_path, monkeypatch):
    smooth = lps.SmoothedClassifier(tiny_classifier, tiny_set, 0.5)
    any_size = classifiers.Unet(3, channels=(4, 8))
    any_size.build((None, 12, 12, 3))
    for model, name, format, options, message in (
        (smooth, "a.onnx", "onnx", {}, "Certificates can be exported as a SavedModel"),
        (tiny_classifier, "a", "onnx", {}, "must end in '.onnx'"),
        (tiny_classifier, "a.onnx", "litert", {}, "must end in '.tflite'"),
        (tiny_classifier, "a", "tflite", {}, "`format` must be one of"),
        ("model", "a.onnx", "onnx", {}, "`model` must be"),
        (any_size, "a.onnx", "onnx", {}, r"takes as \(None, None, 3\)"),
        (any_size, "a.onnx", "onnx", {"image_shape": (12, 12, 1)}, "takes as"),
        (tiny_set, "a", "saved_model", {"image_shape": (12, 12, 1)}, "all sizes"),
    ):
        with pytest.raises(ValueError, match=message):
            lps.export(model, tmp_path / name, format, **options)
    monkeypatch.setitem(importlib.import_module("sys").modules, "tf2onnx.convert", None)
    with pytest.raises(ImportError, match=r"pip install 'lps_tf\[export\]'"):
        lps.export(tiny_classifier, tmp_path / "a.onnx", "onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_code_of_the_page_of_presets_runs(tmp_path, monkeypatch):
    pytest.importorskip("tf2onnx", reason="pip install 'lps_tf[export]'")
    text = (pathlib.Path(__file__).parents[2] / "docs" / "presets.md").read_text()
    monkeypatch.chdir(tmp_path)
    names = {}
    for part in text.split("```python\n")[1:]:
        exec(compile(part.split("```")[0], "presets.md", "exec"), names)
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"my_rain", "classifier.onnx", "set.tflite"}
    again = lps.PerturbationSet.from_preset("my_rain")
    assert again.radius == names["pset"].radius == names["attack"].radius

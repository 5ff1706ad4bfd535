import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps

ALPHA = tf.constant(0.01, tf.float64)


@pytest.mark.slow
def test_perturbation_set_endpoints(tiny_set, images, tmp_path):
    lps.export(tiny_set, tmp_path / "set")
    loaded = tf.saved_model.load(tmp_path / "set")
    u = np.random.RandomState(0).randn(6, 4).astype(np.float32)
    np.testing.assert_allclose(
        loaded.perturb(images, u), tiny_set.perturb(images, u), atol=1e-5
    )
    # Another batch size than any used before the export.
    assert loaded.perturb(images[:1], u[:1]).shape == (1, 12, 12, 1)
    x_perturbed = np.roll(images, 1, 2)
    np.testing.assert_allclose(
        loaded.encode(images, x_perturbed),
        tiny_set.encode(images, x_perturbed),
        atol=1e-4,
    )
    np.testing.assert_array_equal(
        loaded.sample(images, 1.0, 3), loaded.sample(images, 1.0, 3)
    )
    # In a ball of no size a sample is the centre; in a larger one it is not.
    centre = tiny_set(images)
    np.testing.assert_allclose(loaded.sample(images, 1e-6, 3), centre, atol=1e-4)
    assert np.abs(loaded.sample(images, 1.0, 3) - centre).max() > 1e-3
    assert float(loaded.radius()) == pytest.approx(tiny_set.radius)
    with pytest.raises(tf.errors.InvalidArgumentError, match="radius"):
        loaded.sample(images, -1.0, 3)


@pytest.mark.slow
def test_each_weight_is_saved_once(tiny_set, tmp_path):
    lps.export(tiny_set, tmp_path / "set")
    saved = tf.train.list_variables(str(tmp_path / "set/variables/variables"))
    numbers = sum(int(np.prod(shape)) for name, shape in saved if "ATTR" in name)
    assert 0 < numbers <= tiny_set.count_params()


def test_classifier_endpoint(tiny_classifier, images, tmp_path):
    lps.export(lps.RobustClassifier(tiny_classifier), tmp_path / "classifier")
    loaded = tf.saved_model.load(tmp_path / "classifier")
    np.testing.assert_allclose(loaded.serve(images), tiny_classifier(images), atol=1e-5)


class Subclassed(keras.Model):
    """A model whose shapes nobody knows before it is called, of one logit."""

    def __init__(self):
        super().__init__()
        self.flatten, self.dense = keras.layers.Flatten(), keras.layers.Dense(1)

    def call(self, x, training=False):
        return self.dense(self.flatten(x))


@pytest.fixture
def subclassed():
    keras.utils.set_random_seed(2)
    return Subclassed()


def test_a_subclassed_classifier_of_one_logit(subclassed, images, tmp_path):
    z = subclassed(images).numpy()
    lps.export(subclassed, tmp_path / "model")
    loaded = tf.saved_model.load(tmp_path / "model")
    logits = loaded.serve(images[:2]).numpy()
    np.testing.assert_allclose(logits, np.stack([0 * z, z], 1)[:2, :, 0], atol=1e-6)


@pytest.mark.slow
def test_a_subclassed_smoothed_classifier(subclassed, tiny_set, images, tmp_path):
    subclassed(images)
    smooth = lps.SmoothedClassifier(subclassed, tiny_set, 0.1, batch_size=20)
    loaded = tf.saved_model.load(lps.export(smooth, tmp_path / "smooth"))
    ours = smooth.predict(images, n=40, alpha=0.01, verbose=False)
    np.testing.assert_array_equal(loaded.predict(images, 40, ALPHA, 0), ours)
    assert set(ours) - {-1} <= {0, 1} and (ours >= 0).any()


@pytest.fixture(scope="module")
def smooth(tiny_set, tiny_classifier):
    return lps.SmoothedClassifier(tiny_classifier, tiny_set, 0.5, batch_size=64)


@pytest.fixture(scope="module")
def saved_smooth(smooth, tmp_path_factory):
    return lps.export(smooth, tmp_path_factory.mktemp("smooth") / "smooth")


def assert_same(theirs, ours):
    for name in ("prediction", "samples"):
        np.testing.assert_array_equal(theirs[name], getattr(ours, name))
    # A draw whose two best logits are equal up to rounding may be counted differently.
    np.testing.assert_allclose(theirs["radius"], ours.radius, atol=0.02)
    np.testing.assert_allclose(theirs["p_lower"], ours.p_lower, atol=0.01)


def certified(smooth, loaded, images, target):
    """(theirs, ours) in all three ways."""
    numbers = {"n0": 30, "alpha": 0.01, "verbose": False}
    ours = smooth.certify(images, n=300, **numbers)
    yield loaded.certify(images, 30, 300, ALPHA, 0), ours
    double = tf.constant(target, tf.float64)
    ours = smooth.certify(images, n=900, target_radius=target, **numbers)
    yield loaded.certify_target(images, double, 30, 900, ALPHA, 0), ours
    double = tf.constant(0.2, tf.float64)
    ours = smooth.certify(images, n=900, share=0.2, **numbers)
    yield loaded.certify_share(images, double, 30, 900, ALPHA, 0), ours


@pytest.mark.slow
def test_smoothed_classifier_certifies_in_the_graph(smooth, saved_smooth, images):
    loaded = tf.saved_model.load(saved_smooth)
    samples = []
    for theirs, ours in certified(smooth, loaded, images, 0.1):
        assert_same(theirs, ours)
        assert (ours.prediction >= 0).any()
        samples.append(len(set(ours.samples)))
    assert samples[0] == 1 < min(samples[1:])  # it stops, image by image
    predictions = smooth.predict(images, n=300, alpha=0.01, verbose=False)
    np.testing.assert_array_equal(loaded.predict(images, 300, ALPHA, 0), predictions)
    other = loaded.certify(images, 30, 300, ALPHA, 1)["p_lower"]
    assert (other != loaded.certify(images, 30, 300, ALPHA, 0)["p_lower"]).numpy().any()
    for alpha in (0.0, 1.0):
        with pytest.raises(tf.errors.InvalidArgumentError, match="alpha"):
            loaded.certify(images, 30, 300, tf.constant(alpha, tf.float64), 0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least 1"):
        loaded.predict(images, 0, ALPHA, 0)
    zero = tf.constant(0.0, tf.float64)
    with pytest.raises(tf.errors.InvalidArgumentError, match="target_radius"):
        loaded.certify_target(images, zero, 30, 300, ALPHA, 0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="share"):
        loaded.certify_share(images, zero, 30, 300, ALPHA, 0)


@pytest.mark.slow
def test_smoothed_segmenter_certifies_in_the_graph(tiny_set, images, tmp_path):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((12, 12, 1)), keras.layers.Conv2D(3, 3, padding="same")]
    segmenter = keras.Sequential(layers)
    smooth = lps.SmoothedClassifier(segmenter, tiny_set, 0.1, batch_size=60)
    loaded = tf.saved_model.load(lps.export(smooth, tmp_path / "smooth"))
    for theirs, ours in certified(smooth, loaded, images[:2], 0.02):
        assert theirs["radius"].shape == (2, 12, 12)
        np.testing.assert_array_equal(theirs["samples"], ours.samples)
        close = np.isclose(theirs["radius"], ours.radius, atol=0.005)
        assert close.mean() > 0.99
        assert (theirs["prediction"].numpy() == ours.prediction).mean() > 0.99
        assert (ours.prediction >= 0).mean() > 0.5


@pytest.mark.slow
def test_smoothed_classifier_certifies_from_the_command_line(
    smooth, saved_smooth, images, tmp_path
):
    np.save(tmp_path / "x.npy", images)
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "run"]
    numbers = "target_radius=0.1;n0=30;n=900;alpha=0.01;seed=0"
    command += ["--dir", saved_smooth, "--tag_set", "serve"]
    command += ["--signature_def", "certify_target", "--outdir", tmp_path]
    command += ["--inputs", f"x={tmp_path / 'x.npy'}", "--input_exprs", numbers]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    ours = smooth.certify(images, 30, 900, 0.01, target_radius=0.1, verbose=False)
    names = ("prediction", "radius", "p_lower", "samples")
    assert_same({name: np.load(tmp_path / f"{name}.npy") for name in names}, ours)


@pytest.mark.slow
def test_saved_model_loads_where_the_package_cannot(tiny_set, images, tmp_path):
    lps.export(tiny_set, tmp_path / "set")
    u = np.ones((6, 4), np.float32)
    np.savez(tmp_path / "data.npz", x=images, u=u, expected=tiny_set.perturb(images, u))
    script = (
        "import sys; sys.modules['lps_tf'] = None\n"
        "import numpy as np, tensorflow as tf\n"
        "d = np.load(sys.argv[1] + '/data.npz')\n"
        "model = tf.saved_model.load(sys.argv[1] + '/set')\n"
        "got = model.perturb(d['x'], d['u']).numpy()\n"
        "assert np.abs(got - d['expected']).max() < 1e-5\n"
    )
    subprocess.run([sys.executable, "-I", "-c", script, str(tmp_path)], check=True)


def test_export_replaces_and_leaves_nothing_half_written(
    tiny_classifier, images, tmp_path
):
    for _ in range(2):
        lps.export(tiny_classifier, tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="`model` must be"):
        lps.export("model", tmp_path / "model")
    fresh = lps.PerturbationSet.from_network("mnist_stn", latent_dim=4)
    with pytest.raises(ValueError, match="not seen an image"):
        lps.export(fresh, tmp_path / "model")
    assert not list(tmp_path.iterdir())

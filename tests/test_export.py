import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps

ALPHA = tf.constant(0.01, tf.float64)


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


def test_classifier_endpoint(tiny_classifier, images, tmp_path):
    lps.export(lps.RobustClassifier(tiny_classifier), tmp_path / "classifier")
    loaded = tf.saved_model.load(tmp_path / "classifier")
    np.testing.assert_allclose(loaded.serve(images), tiny_classifier(images), atol=1e-5)


def test_smoothed_classifier_certifies_in_the_graph(
    tiny_set, tiny_classifier, images, tmp_path
):
    smooth = lps.SmoothedClassifier(tiny_classifier, tiny_set, 0.5, batch_size=64)
    lps.export(smooth, tmp_path / "smooth")
    loaded = tf.saved_model.load(tmp_path / "smooth")
    ours = smooth.certify(images, n0=30, n=300, alpha=0.01, verbose=False)
    theirs = loaded.certify(images, 30, 300, ALPHA, 0)
    np.testing.assert_array_equal(theirs["prediction"], ours.prediction)
    np.testing.assert_allclose(theirs["radius"], ours.radius, atol=0.02)
    np.testing.assert_allclose(theirs["p_lower"], ours.p_lower, atol=0.01)
    predictions = smooth.predict(images, n=300, alpha=0.01, verbose=False)
    np.testing.assert_array_equal(loaded.predict(images, 300, ALPHA, 0), predictions)
    for alpha in (0.0, 1.0):
        with pytest.raises(tf.errors.InvalidArgumentError, match="alpha"):
            loaded.certify(images, 30, 300, tf.constant(alpha, tf.float64), 0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least 1"):
        loaded.predict(images, 0, ALPHA, 0)


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

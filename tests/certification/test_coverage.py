"""True perturbations beside their certificates, against plain counting."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import binomtest

import lps_tf as lps
from lps_tf.certification import CertificationReport, certify_dataset, merge
from lps_tf.certification.coverage import summarise

QUICK = {"n0": 5, "n": 40, "alpha": 0.05, "images_per_file": 2, "verbose": False}


def counted(norms, right, radius, correct, valid):
    """The definitions, one perturbation of one pixel at a time."""
    inside = total = inside_right = 0
    shares = []
    for i in range(len(norms)):
        found = []
        for place in np.ndindex(radius.shape[1:]):
            for j in range(norms.shape[1]):
                here = (i, *place)
                total += valid[here]
                if correct[here] and radius[here] > 0:
                    found.append(right[(i, j, *place)])
                    if norms[i, j] <= radius[here]:
                        inside += 1
                        inside_right += right[(i, j, *place)]
        if found:
            shares.append(np.mean(found))
    return total, inside / total, inside_right / max(inside, 1), shares


@pytest.mark.parametrize("shape", [(), (3, 2)])
def test_the_figures_are_those_of_plain_counting(shape):
    random = np.random.default_rng(0)
    norms = random.uniform(0, 2, (7, 4))
    radius = np.where(random.random((7, *shape)) < 0.2, 0, random.random((7, *shape)))
    valid = random.random((7, *shape)) < 0.9
    correct = (random.random((7, *shape)) < 0.7) & valid
    right = random.random((7, 4, *shape)) < 0.6
    found = summarise(norms, right, radius, correct, valid)
    total, inside, inside_right, shares = counted(norms, right, radius, correct, valid)
    assert found.perturbations == total and found.certified == len(shares)
    assert found.inside == pytest.approx(inside) and 0 < inside < 1
    assert found.inside_correct == pytest.approx(inside_right)
    assert found.accuracy == pytest.approx(np.mean(shares))
    assert found.low < found.accuracy < found.high


@pytest.mark.parametrize("right", [0, 3, 20])
def test_the_interval_is_scipys(right):
    correct = np.ones(20, bool)
    answers = (np.arange(20) < right)[:, None]
    found = summarise(np.ones((20, 1)), answers, np.ones(20), correct, correct)
    interval = binomtest(right, 20).proportion_ci(0.95, "exact")
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_nothing_certified_has_no_accuracy():
    no = np.zeros(2, bool)
    found = summarise(np.ones((2, 3)), np.ones((2, 3), bool), np.zeros(2), no, ~no)
    assert found.inside == 0 and found.certified == 0
    assert found.accuracy is found.low is found.high is found.inside_correct is None


@pytest.fixture(scope="module")
def smoothed(tiny_set, tiny_classifier):
    return lps.SmoothedClassifier(tiny_classifier, tiny_set, 0.5, batch_size=16)


@pytest.fixture(scope="module")
def groups(tiny_set, images):
    """Three members of the set of each image, at known latents."""
    u = np.random.RandomState(0).normal(size=(6, 3, 4)).astype(np.float32)
    members = [tiny_set.perturb(images, u[:, j]).numpy() for j in range(3)]
    return np.stack(members, 1)


@pytest.fixture(scope="module")
def images():
    return np.random.RandomState(1).uniform(size=(6, 12, 12, 1)).astype(np.float32)


@pytest.mark.parametrize("arrays", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_true_perturbations_are_encoded_and_classified(
    tmp_path, smoothed, tiny_set, tiny_classifier, images, groups, arrays
):
    labels = np.array([0, 1, 2, 0, 1, 2])
    perturbed = (groups, labels)
    if not arrays:
        perturbed = tf.data.Dataset.from_tensor_slices(perturbed).batch(4)
    report = certify_dataset(
        smoothed, (images, labels), tmp_path / "a", perturbed=perturbed, **QUICK
    )
    for j in range(3):
        u = tiny_set.encode(images, groups[:, j])
        norms = np.linalg.norm(u, axis=1)
        np.testing.assert_allclose(report.norms[:, j], norms, rtol=1e-4)
        answers = tiny_classifier.predict(groups[:, j], verbose=0).argmax(1)
        np.testing.assert_array_equal(report.perturbed_correct[:, j], answers == labels)
    assert report.coverage.perturbations == 18
    assert report.to_dict()["coverage"]["inside"] == report.coverage.inside
    assert "true perturbations inside of a certificate" in str(report)
    # The certificates are those without it, and the report comes back whole.
    plain = certify_dataset(smoothed, (images, labels), tmp_path / "b", **QUICK)
    np.testing.assert_array_equal(plain.radius, report.radius)
    assert plain.coverage is None and plain.to_dict()["coverage"] is None
    report.to_json(tmp_path / "report.json")
    again = CertificationReport.load(tmp_path / "report.json")
    assert again.coverage == report.coverage
    # In shards, and resumed.
    for i in (1, 2):
        certify_dataset(
            smoothed,
            (images, labels),
            tmp_path / f"shard{i}",
            perturbed=perturbed,
            shard=(i, 2),
            **QUICK,
        )
    merged = merge([tmp_path / "shard1", tmp_path / "shard2"], tmp_path / "merged")
    assert merged.coverage == report.coverage


@pytest.mark.slow
def test_segmenters_are_measured_by_pixels(tmp_path, tiny_set, images, groups):
    keras.utils.set_random_seed(0)
    x = keras.Input((12, 12, 1))
    segmenter = keras.Model(x, keras.layers.Conv2D(3, 3, padding="same")(x))
    maps = np.random.RandomState(2).randint(0, 3, (6, 12, 12))
    maps[:, 0] = 255
    report = certify_dataset(
        lps.SmoothedClassifier(segmenter, tiny_set, 0.5, correction="none"),
        (images, maps),
        tmp_path,
        perturbed=(groups, maps),
        ignore_class=255,
        **QUICK,
    )
    assert report.perturbed_correct.shape == (6, 3, 12, 12)
    assert not report.perturbed_correct[:, :, 0].any()
    assert report.coverage.perturbations == 6 * 3 * 12 * 11


def test_perturbations_must_be_of_the_images(tmp_path, smoothed, images, groups):
    labels = np.array([0, 1, 2, 0, 1, 2])

    def certify(versions, y):
        certify_dataset(
            smoothed, (images, labels), tmp_path, perturbed=(versions, y), **QUICK
        )

    with pytest.raises(ValueError, match="same images in the same order"):
        certify(groups[::-1], labels[::-1])
    with pytest.raises(ValueError, match=r"versions \(batch, count.*\(2, 12, 12, 1\)"):
        certify(groups[:, 0], labels)
    with pytest.raises(ValueError, match="of shape"):  # there are not enough
        certify(groups[:3], labels[:3])
    assert not list(tmp_path.iterdir())


class NoEncoder:
    latent_dim, image_shape, radius = 4, (12, 12, 1), 2.0

    def __init__(self, pset):
        self.condition, self.decode = pset.condition, pset.decode
        self.perturb, self.digest = pset.perturb, pset.digest


@pytest.mark.slow
def test_a_set_without_an_encoder_says_so(
    tmp_path, tiny_set, tiny_classifier, images, groups
):
    smoothed = lps.SmoothedClassifier(tiny_classifier, NoEncoder(tiny_set), 0.5)
    labels = np.zeros(6, int)
    with pytest.raises(ValueError, match=r"encode\(x, x_perturbed\).*NoEncoder"):
        certify_dataset(
            smoothed, (images, labels), tmp_path, perturbed=(groups, labels), **QUICK
        )

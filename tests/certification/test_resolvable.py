"""Certificates from perturbed images hold for the clean ones, where a set resolves."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import norm

import lps_tf as lps
from lps_tf.sets import parametric
from lps_tf.sets.protocol import Resolvable

SHAPE = (10, 11, 1)
SETS = {
    "brightness": parametric.Brightness(SHAPE, 0.3),
    "contrast": parametric.Contrast(SHAPE, 2.0),
    "l2": parametric.L2(SHAPE, 1.0),
    "wrapped": parametric.Translation(SHAPE, 4.0, "wrap"),
    "on a background": parametric.Translation(SHAPE, 4.0),
}
every_set = pytest.mark.parametrize("name", SETS)


def images(n=6, low=0.3, high=0.7, seed=0):
    random = np.random.default_rng(seed)
    x = np.full((n, *SHAPE), low, np.float32)
    x[:, 3:-3, 3:-3] = random.uniform(low, high, (n, 4, 5, 1))  # on a background
    return x


def latents(pset, n=6, seed=1):
    """Small ones; of translations, whole pixels that leave all but the background."""
    random = np.random.default_rng(seed)
    if isinstance(pset, parametric.Translation):
        return (random.integers(-2, 3, (n, 2)) / pset.distance).astype(np.float32)
    return (0.05 * random.normal(size=(n, pset.latent_dim))).astype(np.float32)


@every_set
def test_perturbing_twice_is_perturbing_by_the_sum(name):
    pset = SETS[name]
    x, u = images(), latents(pset)
    v = np.random.default_rng(2).normal(size=u.shape).astype(np.float32)
    assert isinstance(pset, Resolvable)
    assert pset.resolves(x, u).numpy().all()
    once = pset.perturb(x, u)
    # The second one may go as far as it likes: what it loses, the sum loses as well.
    for scale in (0.3, 1.0, 5.0):
        np.testing.assert_allclose(
            pset.perturb(once, scale * v), pset.perturb(x, u + scale * v), atol=2e-5
        )


@pytest.mark.parametrize(
    "name, u",
    [
        ("brightness", [2.0]),  # what was above 0.4 becomes white
        ("contrast", [3.0]),
        ("wrapped", [0.125, 0.0]),  # half a pixel
        ("on a background", [0.0, 0.125]),
        ("on a background", [1.0, 0.0]),  # four rows leave, three of them background
    ],
)
def test_where_something_is_lost_it_says_so(name, u):
    pset, x = SETS[name], images()
    u = np.repeat(np.float32([u]), 6, 0)
    assert not pset.resolves(x, u).numpy().any()
    twice, none = pset.perturb(pset.perturb(x, u), -u / 2), pset.perturb(x, u / 2)
    assert (np.abs(twice - none).max((1, 2, 3)) > 1e-2).all()


def test_other_sets_do_not_resolve(tiny_set):
    for pset in (
        tiny_set,
        parametric.GaussianBlur(SHAPE, 1.0),
        parametric.Affine(SHAPE, rotation=30),
        parametric.Linf(SHAPE, 0.1),
        parametric.Compose(SETS["brightness"], SETS["contrast"]),
    ):
        smoothed = lps.SmoothedClassifier(lambda x, training=False: x, pset, 0.5)
        assert not isinstance(pset, Resolvable) and not smoothed.resolvable


class Bands(tf.Module):
    """Answers by a number of the image, in bands: 0, 1, 2, 0, 1, 2, ..."""

    def __init__(self, measure, width):
        self.measure, self.width = measure, width

    def __call__(self, x, training=False):
        band = tf.cast(tf.floor(self.measure(x) / self.width), tf.int32)
        return tf.one_hot(tf.math.floormod(band, 3), 3)


def brightness(x):
    return tf.reduce_mean(x, (1, 2, 3))


def spread(x):
    return tf.math.reduce_std(x, (1, 2, 3))


def column(x):
    """The column of the centre of what is above the background, and then the row."""
    weight = tf.maximum(x[..., 0] - 0.3, 0.0)
    total = tf.reduce_sum(weight, (1, 2))
    across = tf.reduce_sum(weight * tf.range(11.0), (1, 2)) / total
    down = tf.reduce_sum(weight * tf.range(10.0)[:, None], (1, 2)) / total
    return across + 0.5 * down


def exact_probabilities(pset, base, x, sigma):
    """Of each class under the noise, by quadrature in one or two dimensions."""
    t = np.linspace(-5, 5, 1001 if pset.latent_dim == 1 else 61)
    weight = norm.pdf(t) / norm.pdf(t).sum()
    grid = np.stack(np.meshgrid(*[t] * pset.latent_dim, indexing="ij"), -1)
    u = (sigma * grid.reshape(-1, pset.latent_dim)).astype(np.float32)
    weights = weight if pset.latent_dim == 1 else np.outer(weight, weight).ravel()
    found = [
        weights @ base(pset.perturb(np.repeat(image[None], len(u), 0), u)).numpy()
        for image in x
    ]
    return np.array(found)


# The noise takes the images through several bands.
@pytest.mark.parametrize(
    "name, base, sigma",
    [
        ("brightness", Bands(brightness, 0.2), 0.25),
        pytest.param("contrast", Bands(spread, 0.06), 0.4, marks=pytest.mark.slow),
        pytest.param(
            "on a background", Bands(column, 5.0), 0.25, marks=pytest.mark.slow
        ),
    ],
)
def test_what_is_certified_of_a_perturbed_image_holds_for_the_clean_one(
    name, base, sigma
):
    pset, n = SETS[name], 30
    x, u = images(n, seed=3), latents(pset, n, seed=4)
    if pset.latent_dim == 1:
        u *= 4  # far from where something is clipped
    assert pset.resolves(x, u).numpy().all()
    smoothed = lps.SmoothedClassifier(base, pset, sigma)
    assert smoothed.resolvable
    found = smoothed.certify(pset.perturb(x, u), n0=100, n=1000, verbose=False)
    exact = exact_probabilities(pset, base, x, sigma)
    np.testing.assert_allclose(exact.sum(1), 1.0, atol=1e-5)
    length = np.linalg.norm(u, axis=1)
    covered = (found.prediction >= 0) & (length <= found.radius)
    right = exact.argmax(1) == found.prediction
    assert covered.sum() >= 5 and right[covered].all()
    assert exact.max(1)[covered].min() > 0.5 - 1e-3
    # Beyond the radius nothing is said, and it does come out otherwise.
    beyond = (found.prediction >= 0) & ~covered
    assert not right[beyond].all()


@pytest.mark.parametrize(
    "pset, text",
    [
        (SETS["brightness"], "the image given, and the clean one if it is perturbed"),
        (parametric.GaussianBlur(SHAPE, 1.0), "the image given, taken to be clean"),
    ],
    ids=["resolvable", "not"],
)
def test_the_report_says_which_image_it_is_about(pset, text, tmp_path):
    classifier = lps.networks.classifiers.small_cnn(SHAPE, 3, filters=(4,), units=8)
    smoothed = lps.SmoothedClassifier(classifier, pset, 0.5)
    data = images(3), np.arange(3)
    report = lps.certify_dataset(smoothed, data, tmp_path, n0=5, n=20, verbose=False)
    assert report.resolvable == smoothed.resolvable
    (line,) = [v for v in str(report).splitlines() if v.startswith("certificates hold")]
    assert line.endswith(text)
    report.to_json(tmp_path / "report.json")
    again = lps.CertificationReport.load(tmp_path / "report.json")
    assert again.resolvable == report.resolvable

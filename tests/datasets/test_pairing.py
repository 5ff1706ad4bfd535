"""Pairing strategies and the joint crop and flip, against what they are made of."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from lps_tf.datasets.pipelines import pairing
from lps_tf.datasets.pipelines.pairing import crop_and_flip
from lps_tf.datasets.pipelines.stored import Groups, grouped_data

IMAGES, VERSIONS = 30, 4


def groups(first=0, count=IMAGES):
    """Groups whose images tell who they are: image number + version / 10."""
    number = np.arange(first, first + count, dtype=np.float32)
    x = np.broadcast_to(number[:, None, None, None], (count, 6, 8, 1))
    versions = x[:, None] + np.arange(1, VERSIONS + 1).reshape(1, -1, 1, 1, 1) / 10
    return tf.data.Dataset.from_tensor_slices((x, np.float32(versions), number % 3))


def names(data):
    """(image, version) of both parts of each pair."""
    found = []
    for pair in data:
        values = [round(float(part[0, 0, 0]) * 10) for part in pair]
        found.append(tuple(divmod(v, 10) for v in values))
    return found


@pytest.mark.parametrize(
    "strategy, first, second",
    [
        ("from_original", {0}, {1, 2, 3, 4}),
        ("with_original", {0, 1, 2, 3, 4}, {0, 1, 2, 3, 4}),
        ("among_perturbed", {1, 2, 3, 4}, {1, 2, 3, 4}),
    ],
)
def test_a_strategy_draws_each_of_its_pairs_alike(strategy, first, second):
    data = pairing.PAIRINGS[strategy](groups(), seed=1).repeat(30)
    found = names(data)
    assert len(found) == 30 * IMAGES
    assert all(a[0] == b[0] for a, b in found)  # two versions of one image
    allowed = {(a, b) for a in first for b in second if a != b}
    counts = collections.Counter((a[1], b[1]) for a, b in found)
    assert set(counts) == allowed
    expected = len(found) / len(allowed)
    # Five standard deviations of a multinomial count.
    assert all(abs(c - expected) < 5 * np.sqrt(expected) for c in counts.values())


def test_pairs_are_drawn_afresh_in_each_pass_and_again_with_the_seed():
    data = pairing.with_original(groups(), seed=3)
    passes = [names(data), names(data)]
    assert passes[0] != passes[1]
    tf.random.set_seed(0)
    one = names(pairing.with_original(groups(), seed=3))
    tf.random.set_seed(0)
    assert names(pairing.with_original(groups(), seed=3)) == one
    tf.random.set_seed(0)
    assert names(pairing.with_original(groups(), seed=4)) != one


def test_all_pairs_are_each_version_once_and_counted():
    data = pairing.all_pairs(groups())
    assert int(data.cardinality()) == IMAGES * VERSIONS
    expected = [((i, 0), (i, v)) for i in range(IMAGES) for v in range(1, VERSIONS + 1)]
    assert names(data) == expected


def test_any_version_includes_the_image_itself():
    counts = collections.Counter()
    for x, y in pairing.any_version(groups(), seed=0).repeat(40):
        image, version = divmod(round(float(x[0, 0, 0]) * 10), 10)
        assert float(y) == image % 3
        counts[version] += 1
    assert set(counts) == set(range(VERSIONS + 1))
    expected = 40 * IMAGES / (VERSIONS + 1)
    assert all(abs(c - expected) < 5 * np.sqrt(expected) for c in counts.values())


# The joint crop and flip.


def coordinates(height, width, channels=2):
    rows, columns = np.mgrid[1 : height + 1, 1 : width + 1]
    return np.stack([rows, columns][:channels], -1).astype(np.float32)


@pytest.mark.parametrize("mode", ["CONSTANT", "SYMMETRIC"])
def test_crop_and_flip_moves_all_parts_by_the_same_whole_pixels(mode):
    # Defect 4 of the original: it computes the crop and then throws it away.
    image = coordinates(9, 12)
    labels = np.int32(image[..., :1] * 100 + image[..., 1:])
    move = crop_and_flip(3, mode=mode)
    seen = set()
    for i in range(150):
        moved, moved_labels = move(tf.constant([i, 0]), image, labels)
        assert moved.shape == image.shape and moved_labels.shape == labels.shape
        together = np.int32(moved[..., :1] * 100 + moved[..., 1:])
        np.testing.assert_array_equal(moved_labels, together)
        # Where it went, by hand: find it among all shifts of the padded image.
        turned = bool(moved[4, 5, 1] > moved[4, 6, 1])
        view = np.asarray(moved)[:, ::-1] if turned else np.asarray(moved)
        wide = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode.lower())
        down = int(3 + view[4, 5, 0] - 5)
        right = int(3 + view[4, 5, 1] - 6)
        expected = wide[down : down + 9, right : right + 12]
        np.testing.assert_array_equal(view, expected)
        seen.add((down, right, turned))
    assert {d for d, _, _ in seen} == set(range(7)) == {r for _, r, _ in seen}
    assert len(seen) > 60  # of 98


def test_without_padding_and_flip_nothing_moves():
    image = coordinates(5, 5)
    (moved,) = crop_and_flip(0, flip=False)(tf.constant([1, 2]), image)
    np.testing.assert_array_equal(moved, image)
    with pytest.raises(ValueError, match="`pad` must be a whole number"):
        crop_and_flip(-1)


# The pipelines.


def read(image):
    return tf.ensure_shape(image, (6, 8, 1)) / 1000


def data(**changes):
    parts = Groups(groups(1), groups(100, 7), groups(200, 12), decode=read)
    arguments = {
        "pairing": "from_original",
        "batch_size": 4,
        "augment": None,
        "seed": 0,
        "unseen": groups(200, 12),
        "unseen_perturbations": ("a", "b", "c", "d"),
    }
    return grouped_data("numbers", 3, parts, **{**arguments, **changes})


def image_numbers(batches):
    """Numbers of the images in the first part of batches of images or groups."""
    parts = [np.asarray(batch[0]) for batch in batches]
    flat = np.concatenate([p.reshape(-1, 6, 8, 1)[:, 0, 0, 0] for p in parts])
    return set(np.round(flat * 10_000).astype(int) // 10)


def test_no_image_is_in_two_splits():
    # Defect 11 of the original: it splits pairs, so that images are in both.
    found = data()
    train, val, test = range(1, 31), range(100, 107), range(200, 212)
    for name, expected in (
        ("train_pairs", train),
        ("train", train),
        ("train_perturbed", train),
        ("val_pairs", val),
        ("val", val),
        ("test_pairs", test),
        ("test", test),
        ("test_groups", test),
        ("unseen_groups", test),
    ):
        passes = 30 if name.startswith("train") else 1  # a pass drops a batch's rest
        assert image_numbers(getattr(found, name).repeat(passes)) == set(expected)


def test_batches_have_the_promised_shapes():
    found = data()
    assert found.image_shape == (6, 8, 1) and found.num_classes == 3
    for x, x_perturbed in found.train_pairs:
        assert x.shape == x_perturbed.shape == (4, 6, 8, 1)
    versions, y = next(iter(found.test_groups))
    assert versions.shape[1:] == (4, 6, 8, 1) and versions.shape[0] == y.shape[0]
    assert int(found.train_pairs.cardinality()) == 7
    total = sum(len(x) for x, _ in found.test_pairs)
    assert total == 12 * VERSIONS
    # The label stays with its image.
    for x, y in found.train_perturbed.concatenate(found.test):
        number = np.round(np.asarray(x)[:, 0, 0, 0] * 10_000).astype(int) // 10
        np.testing.assert_array_equal(number % 3, y)


def test_training_pairs_are_moved_alike_and_test_pairs_not_at_all():
    found = data(augment=crop_and_flip(2))
    moved = False
    for x, x_perturbed in found.train_pairs:
        black = np.asarray(x) == 0
        np.testing.assert_array_equal(black, np.asarray(x_perturbed) == 0)
        moved |= black[..., 0].any(axis=(1, 2)).any() and not black.all()
    assert moved
    for x, _ in found.test_pairs:
        assert (np.asarray(x) > 0).all()


def test_mixed_batches_begin_with_one_source_and_end_with_the_other():
    first = tf.data.Dataset.range(12).map(lambda i: (i, i)).batch(4)
    second = first.map(lambda x, y: (-x, y))
    batches = list(pairing.mixed(first, second.take(2), 0.6).as_numpy_iterator())
    assert len(batches) == 2  # of the shorter one
    np.testing.assert_array_equal(batches[0][0], [0, 1, -2, -3])  # 2.4 is two images
    np.testing.assert_array_equal(batches[1][0], [4, 5, -6, -7])
    np.testing.assert_array_equal(batches[1][1], [4, 5, 6, 7])
    with pytest.raises(ValueError, match=r"`share` must be .* share=1"):
        pairing.mixed(first, second, 1)
    with pytest.raises(ValueError, match=r"the same shapes and types"):
        pairing.mixed(first, second.unbatch())


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"`pairing` must be one of .*from_original"):
        data(pairing="all")
    with pytest.raises(ValueError, match="batch_size=31, images=30"):
        data(batch_size=31)

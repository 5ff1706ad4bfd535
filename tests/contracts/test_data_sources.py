"""What every source of data promises, whatever is in it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from tests.datasets.image_folders import columns, dataset
from tests.datasets.published_scenes import FOLDERS, write_scene
from tests.datasets.test_photographs import prepare_cifar10, prepare_grey, prepare_mnist

PAIRS = ("train_pairs", "val_pairs", "test_pairs")
LABELLED = ("train", "val", "test", "train_perturbed")
GROUPS = ("test_groups", "unseen_groups")
FIXED = ("val_pairs", "test_pairs", "val", "test", "test_groups", "unseen_groups")


# Each gives a function of (batch_size, seed); augmentation would hide who is who.


def mnist5k_rts(folder):
    return lambda b, s: lps.datasets.mnist5k_rts(b, num_samples=2, group_size=3, seed=s)


def mnist5k_limited(folder):
    return lambda b, s: lps.datasets.mnist5k_linf(
        b, limited=2, num_samples=1, group_size=2, seed=s
    )


def mnist(folder):
    prepare_mnist(folder)
    return lambda b, s: lps.datasets.mnist_linf(b, data_dir=folder, seed=s)


def fashion(folder):
    prepare_grey("fashion_mnist", folder)
    return lambda b, s: lps.datasets.fashion_corrupted(
        batch_size=b, augment=False, data_dir=folder, seed=s
    )


def folders(folder):
    names = [f"{'ab'[i % 2]}/{i}" for i in range(40)]
    dirs = dataset(folder, names, ["_fog", "_rain"])
    return lambda b, s: lps.datasets.paired_folders(*dirs, batch_size=b, seed=s)


def corrupted(folder):
    names = [f"{'ab'[i % 2]}/{i}" for i in range(40)]
    directory, _ = dataset(folder, names, size=(16, 16))
    return lambda b, s: lps.datasets.corrupted_folder(
        directory, batch_size=b, data_dir=folder / "data", seed=s
    )


def scenes(folder):
    size = {"height": 16, "width": 24, "train": 3, "val": 1, "test": 1}
    return lambda b, s: lps.datasets.scenes(
        **size, batch_size=b, augment=False, data_dir=folder, seed=s
    )


def photos(folder):
    return lambda b, s: lps.datasets.photos(
        batch_size=b, augment=False, patches=(3, 1, 2), data_dir=folder, seed=s
    )


def cifar10(folder):
    prepare_cifar10(folder)
    return lambda b, s: lps.datasets.cifar10_corrupted(
        batch_size=b, augment=False, data_dir=folder, seed=s
    )


def multi_illumination(folder):
    for scene in FOLDERS:
        write_scene(folder / "published" / scene)
    return lambda b, s: lps.datasets.multi_illumination(
        batch_size=b,
        augment=False,
        data_dir=folder,
        manual_dir=folder / "published",
        seed=s,
    )


# Where other seeds are other images or splits; elsewhere they are other draws alone.
RESPLIT = {mnist5k_rts, mnist5k_limited, folders, corrupted, scenes, photos}
SLOW = {mnist5k_rts, fashion, corrupted, scenes, photos, cifar10, multi_illumination}
SOURCES = [
    pytest.param(source, marks=[pytest.mark.slow] if source in SLOW else [], id=name)
    for name, source in {
        "mnist5k_rts": mnist5k_rts,
        "mnist5k_limited": mnist5k_limited,
        "mnist": mnist,
        "fashion": fashion,
        "folders": folders,
        "corrupted": corrupted,
        "scenes": scenes,
        "photos": photos,
        "cifar10": cifar10,
        "multi_illumination": multi_illumination,
    }.items()
]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*scenes of Multi-Illumination are in"),
    pytest.mark.parametrize("made", SOURCES, indirect=True),
]


@pytest.fixture(scope="module")
def made(request, tmp_path_factory):
    """The source, how to build it, and built with batches of two."""
    build = request.param(tmp_path_factory.mktemp(request.param.__name__))
    return request.param, build, build(2, 0)


def parts(data, names):
    found = {name: getattr(data, name) for name in names}
    return {name: part for name, part in found.items() if part is not None}


def first_epoch(data, names):
    """Arrays of a pass through each part, by name; training cut to a few batches."""
    return {name: columns(part.take(8)) for name, part in parts(data, names).items()}


def digests(data, name):
    return {image.tobytes() for image in columns(getattr(data, name))[0]}


def test_parts_are_plain_batches_of_the_promised_form(made):
    _, _, data = made
    images = (None, *data.image_shape)
    for part in parts(data, PAIRS).values():
        x, x_perturbed = part.element_spec
        assert x == x_perturbed and x.dtype == tf.float32
        assert x.shape.is_compatible_with(images) and x.shape[1:] == data.image_shape
    for name, part in parts(data, LABELLED + GROUPS).items():
        x, y = part.element_spec
        shape = x.shape[2:] if name in GROUPS else x.shape[1:]
        assert x.dtype == tf.float32 and shape == data.image_shape
        assert y.dtype == tf.int64
        assert y.shape[1:] in ((), data.image_shape[:2])  # numbers or maps
        assert isinstance(part, tf.data.Dataset)
    for name in ("train", "train_pairs", "train_perturbed"):
        sizes = [len(x) for x, _ in getattr(data, name).take(8)]
        assert sizes and set(sizes) == {2}


def test_images_and_labels_are_in_their_ranges(made):
    _, _, data = made
    for name, (x, other) in first_epoch(data, PAIRS + LABELLED + GROUPS).items():
        for values in (x, other) if name in PAIRS else (x,):
            assert 0 <= values.min() < values.max() <= 1
        if name not in PAIRS:
            assert other.min() >= 0 and other.max() < data.num_classes


def test_names_count_what_they_name(made):
    _, _, data = made
    assert isinstance(data.name, str) and data.name
    for names, groups in (
        (data.perturbations, data.test_groups),
        (data.unseen_perturbations, data.unseen_groups),
    ):
        assert not names or groups.element_spec[0].shape[1] == len(names)
    assert len(data.class_names) in (0, data.num_classes)


def test_no_image_is_in_two_splits_and_pairs_are_of_their_split(made):
    _, build, _ = made
    data = build(1, 0)
    seen = {name: digests(data, name) for name in ("train", "val", "test")}
    for name, images in seen.items():
        assert images
        others = set().union(*(s for other, s in seen.items() if other != name))
        assert not images & others
    for name in ("val", "test"):
        x, x_perturbed = columns(getattr(data, f"{name}_pairs"))
        # Validation and test pairs are an image, or light 0, and a version of it.
        assert {image.tobytes() for image in x} == seen[name]
        assert (x != x_perturbed).any()


def test_groups_are_of_the_test_images_in_order(made):
    _, _, data = made
    for part in parts(data, GROUPS).values():
        versions, y = columns(part)
        np.testing.assert_array_equal(y, columns(data.test)[1])
        if part is data.test_groups and data.perturbations:
            _, pairs = columns(data.test_pairs)
            np.testing.assert_array_equal(versions.reshape(pairs.shape), pairs)


def test_one_seed_is_one_data_set_and_fixed_parts_stay(made):
    source, build, data = made

    def epoch(seed, *names):
        keras.utils.set_random_seed(3)
        return first_epoch(build(2, seed), names)

    names = ("train_pairs", "train", "train_perturbed", *FIXED[2:])
    first, again = epoch(0, *names), epoch(0, *names)
    fixed = first_epoch(data, FIXED[2:])
    for name in first:
        for other in (again, fixed) if name in FIXED else (again,):
            for a, b in zip(first[name], other[name], strict=True):
                np.testing.assert_array_equal(a, b)
    other = epoch(1, "train_pairs", "test")
    assert not np.array_equal(first["train_pairs"][0], other["train_pairs"][0])
    same = np.array_equal(first["test"][0], other["test"][0])
    assert same == (source not in RESPLIT)

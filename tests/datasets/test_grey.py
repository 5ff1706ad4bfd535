"""MNIST and Fashion-MNIST in the forms that they are found in."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

import lps_tf as lps
from lps_tf import corruptions
from lps_tf.datasets.builders import grey
from tests.datasets.image_folders import columns
from tests.datasets.test_photographs import prepare_grey, prepare_mnist, stored

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture(autouse=True)
def only_here(monkeypatch, tmp_path):
    """Looks nowhere but where a test says."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setitem(
        grey._PLACES, "fashion_mnist", grey._PLACES["fashion_mnist"][:1]
    )
    grey.splits.cache_clear()
    yield
    grey.splits.cache_clear()


def arrays(train=120, test=20):
    random = np.random.RandomState(3)
    return {
        split: (
            random.randint(0, 256, (n, 28, 28), np.uint8),
            (np.arange(n) % 10).astype(np.uint8),
        )
        for split, n in (("train", train), ("t10k", test))
    }


def write_idx(folder, found, compress=True):
    folder.mkdir(parents=True)
    for split, pair in found.items():
        for kind, array in zip(("images-idx3", "labels-idx1"), pair, strict=True):
            data = bytes([0, 0, 8, array.ndim])
            data += np.array(array.shape, ">u4").tobytes() + array.tobytes()
            name = f"{split}-{kind}-ubyte"
            if compress:
                (folder / f"{name}.gz").write_bytes(gzip.compress(data))
            else:
                (folder / name).write_bytes(data)


@pytest.mark.parametrize("compress", [True, False])
def test_images_and_labels_are_those_of_the_files(tmp_path, compress):
    found = arrays()
    write_idx(tmp_path / "idx", found, compress)
    data = lps.datasets.fashion_linf(batch_size=8, data_dir=tmp_path / "idx")
    assert data.name == "Fashion-MNIST, l-infinity"
    # 1 in 60 validates.
    assert [len(columns(part)[1]) for part in (data.val, data.test)] == [2, 20]
    x, y = columns(data.test)
    labels = {
        image.tobytes(): label for image, label in zip(*found["t10k"], strict=True)
    }
    for image, label in zip(np.uint8(np.round(x * 255)), y, strict=True):
        assert labels[image.tobytes()] == label
    x, y = columns(data.val)
    labels = {image.tobytes(): y for image, y in zip(*found["train"], strict=True)}
    assert all(
        labels[image.tobytes()] == label
        for image, label in zip(np.uint8(np.round(x * 255)), y, strict=True)
    )


def test_one_data_set_whatever_form_it_is_found_in(tmp_path):
    prepare_mnist(tmp_path / "tfds")
    found = {}
    for split, name in (("train", "train"), ("t10k", "test")):
        images, labels = zip(*stored("mnist", name, tmp_path / "tfds"), strict=True)
        found[split] = np.stack(images)[..., 0], np.array(labels, np.uint8)
    write_idx(tmp_path / "idx", found)
    (tmp_path / "keras/datasets").mkdir(parents=True)
    np.savez(
        tmp_path / "keras/datasets/mnist.npz",
        x_train=found["train"][0],
        y_train=found["train"][1],
        x_test=found["t10k"][0],
        y_test=found["t10k"][1],
    )
    # Of a folder that holds none, Keras's cache takes the place.
    for folder in ("idx", "nothing"):
        ours = grey.splits("mnist", tmp_path / folder, "", False)
        theirs = grey.splits("mnist", tmp_path / "tfds", "", False)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])


def test_the_cache_of_keras_is_found(tmp_path):
    write_idx(tmp_path / "keras/datasets/fashion-mnist", arrays())
    assert lps.datasets.fashion_rts(batch_size=8).image_shape == (42, 42, 1)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda data: data[:-5], "cannot be read"),
        (lambda data: gzip.compress(gzip.decompress(data)[:-5]), "cut off"),
        (lambda data: gzip.compress(b"<html>not found</html>"), "start with 3c 68 74"),
        (lambda data: gzip.compress(b""), "Received: 0 bytes"),
    ],
)
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_broken_files_are_named(tmp_path, damage, message, name):
    write_idx(tmp_path / "idx", arrays())
    path = tmp_path / "idx" / f"{name}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"{name}\.gz.*{message}"):
        lps.datasets.fashion_rts(data_dir=tmp_path / "idx")


def test_as_many_labels_as_images(tmp_path):
    found = arrays()
    found["train"] = found["train"][0], found["train"][1][:-1]
    write_idx(tmp_path / "idx", found)
    with pytest.raises(ValueError, match=r"images \(120, 28, 28\), labels \(119,\)"):
        lps.datasets.fashion_rts(data_dir=tmp_path / "idx")


def test_nothing_downloads_silently(tmp_path):
    for load in (lps.datasets.fashion_rts, lps.datasets.fashion_corrupted):
        with pytest.raises(FileNotFoundError) as error:
            load(data_dir=tmp_path)
        for part in (
            "fashion_mnist",
            str(tmp_path),
            "keras",
            "download=True",
            "mnist5k",
        ):
            assert part in str(error.value)


@pytest.mark.parametrize(
    "load, name",
    [
        (lps.datasets.mnist_rts, "mnist"),
        (lps.datasets.mnist_linf, "mnist"),
        (lps.datasets.fashion_rts, "fashion_mnist"),
        (lps.datasets.fashion_linf, "fashion_mnist"),
    ],
)
def test_a_download_is_that_of_tfds(tmp_path, monkeypatch, load, name):
    make = tfds.builder

    def builder(name, **options):
        made = make(name, **options)

        def download_and_prepare():
            prepare_grey(name, tmp_path / "tfds")
            made.info.read_from_directory(made.data_path)

        made.download_and_prepare = download_and_prepare
        return made

    monkeypatch.setattr(tfds, "builder", builder)
    data = load(batch_size=8, data_dir=tmp_path / "tfds", download=True)
    assert len(columns(data.test)[1]) == 20


@pytest.mark.slow
def test_corrupted_clothes(tmp_path):
    write_idx(tmp_path / "data", arrays())
    data = lps.datasets.fashion_corrupted(
        batch_size=8, augment=False, data_dir=tmp_path / "data"
    )
    assert data.name == "Fashion-MNIST, corrupted" and data.image_shape == (28, 28, 1)
    assert data.class_names[-1] == "ankle boot" and data.num_classes == 10
    assert data.perturbations == corruptions.PAPER
    x, y = columns(data.test)
    images = np.uint8(np.round(x * 255))
    versions, labels = columns(data.test_groups)
    unseen, _ = columns(data.unseen_groups)
    np.testing.assert_array_equal(labels, y)
    # What is drawn depends on an image's place in the source.
    *_, (source, _) = grey.splits("fashion_mnist", tmp_path / "data", "", False)
    place = {image.tobytes(): i for i, image in enumerate(source)}
    index = [place[image.tobytes()] for image in images]
    for names, seen in (
        (corruptions.PAPER, versions),
        (data.unseen_perturbations, unseen),
    ):
        for i, name in enumerate(names):
            expected = corruptions.corrupt(images, name, 5, 2, index)
            np.testing.assert_array_equal(
                np.uint8(np.round(seen[:, i] * 255)), expected
            )
    # Once prepared, it needs the files no more.
    for file in (tmp_path / "data").glob("*.gz"):
        file.unlink()
    grey.splits.cache_clear()
    again = lps.datasets.fashion_corrupted(
        batch_size=8, augment=False, data_dir=tmp_path / "data"
    )
    np.testing.assert_array_equal(columns(again.test)[0], x)


@pytest.mark.skipif(not grey.idx.holds(DEBIAN), reason="Fashion-MNIST is not here")
def test_all_of_fashion_mnist():
    (x, _), (val, _), (test, labels) = grey.splits("fashion_mnist", DEBIAN, "", False)
    assert (len(x), len(val), len(test)) == (59_000, 1_000, 10_000)
    assert np.bincount(labels).tolist() == [1000] * 10
    assert abs(x.mean() / 255 - 0.286) < 1e-3  # as everyone's normalisation has it

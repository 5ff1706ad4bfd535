"""A user's own images with the common corruptions, prepared here and with Beam."""

import importlib.util
import os
import sys

import numpy as np
import pytest

import lps_tf as lps
from lps_tf import corruptions
from lps_tf.datasets.image_files import read
from tests.datasets.image_folders import save

SIZE = (16, 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seventeen pictures of two classes."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.RandomState(0)
    for i in range(17):
        pixels = random.randint(0, 256, (24, 30, 3))
        save(root / ("cats" if i % 3 else "dogs") / f"{i}.png", pixels)
    return root


def load(folder, data_dir, image_size=SIZE, **changes):
    options = {"batch_size": 2, "validation_split": 0.2, "test_split": 0.2, **changes}
    return lps.datasets.corrupted_folder(
        folder, image_size, data_dir=data_dir, **options
    )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def data(folder, data_dir):
    return load(folder, data_dir)


def groups(data):
    """Every test image, its versions and its label."""
    clean = np.concatenate([x for x, _ in data.test])
    versions, labels = map(np.concatenate, zip(*data.test_groups, strict=True))
    return clean, versions, labels


def test_images_have_their_classes_and_corruptions(folder, data):
    assert data.name == f"images of {folder.name}, corrupted"
    assert data.class_names == ("cats", "dogs") and data.num_classes == 2
    assert data.image_shape == (*SIZE, 3)
    assert data.perturbations == corruptions.PAPER
    assert data.unseen_perturbations == corruptions.OUT_OF_DISTRIBUTION
    clean, versions, labels = groups(data)
    assert versions.shape == (len(clean), 12, *SIZE, 3) and len(clean) >= 2
    files = {read(p, SIZE, 3).tobytes(): p.parent.name for p in folder.rglob("*.png")}
    for i, image in enumerate(np.uint8(np.rint(clean * 255))):
        assert files[image.tobytes()] == data.class_names[labels[i]]
        # Which number it has in its split is the builder's to choose; each once.
        matching = [
            number
            for number in range(len(clean))
            if np.allclose(
                corruptions.corrupt(image[None], "fog", 5, 2, [number])[0] / 255,
                versions[i, corruptions.PAPER.index("fog")],
                atol=1e-6,
            )
        ]
        assert len(matching) == 1


def test_splits_share_no_image_and_leave_none_out(data):
    x, y = zip(*data.train_pairs.take(1), strict=True)
    assert x[0].shape == y[0].shape == (2, *SIZE, 3)
    seen = [
        image.tobytes()
        for part in (data.train, data.val, data.test)
        for batch, _ in part
        for image in batch.numpy()
    ]
    assert len(set(seen)) == len(seen) >= 16  # the last of an odd number is dropped


def test_it_is_prepared_once_and_anew_for_other_files(folder, data, data_dir, tmp_path):
    written = set(data_dir.rglob("*"))
    load(folder, data_dir, seed=0)
    assert set(data_dir.rglob("*")) == written
    other = tmp_path / folder.name
    for path in folder.rglob("*.png"):
        save(other / path.relative_to(folder), 255 - read(path, (24, 30), 3))
    changed = load(other, data_dir)
    assert changed.name == data.name
    np.testing.assert_allclose(groups(changed)[0], 1 - groups(data)[0], atol=0.01)
    assert set(data_dir.rglob("*")) > written


def test_severity_is_that_of_the_corruptions(folder, data, tmp_path):
    weak = load(folder, tmp_path, severity=1)
    clean, strong, _ = groups(data)
    same, versions, _ = groups(weak)
    np.testing.assert_array_equal(clean, same)
    distances = [np.mean((v - clean[:, None]) ** 2) for v in (versions, strong)]
    assert distances[0] < distances[1] / 2


def test_bad_input_is_named(folder, data_dir, tmp_path):
    for changes, message in (
        ({"severity": 6}, "`severity` must be 1 to 5. Received: severity=6"),
        ({"channels": 4}, "`channels` must be 1 or 3"),
        ({"pairing": "none"}, "`pairing` must be one of"),
        ({"batch_size": 50}, "batch_size=50, images=[0-9]+ of 17"),
        ({"validation_split": 0.6, "test_split": 0.5}, "must leave images to train on"),
        ({"image_size": (8, 8)}, "at least 16 pixels.*`image_size`.*8, 8"),
    ):
        with pytest.raises(ValueError, match=message):
            load(folder, tmp_path / "data", **changes)
    with pytest.raises(ValueError, match="`directory` must be a folder"):
        load(folder / "none", data_dir)
    with pytest.raises(ValueError, match="at least three images"):
        load(tmp_path, data_dir)
    (tmp_path / "notes.txt").touch()
    for i in range(5):
        save(tmp_path / f"{i}.png", np.zeros((20 + i, 20, 3)))
    with (
        pytest.warns(UserWarning, match="no images"),
        pytest.raises(ValueError, match=r"of 5 sizes.*Pass `image_size`"),
    ):
        load(tmp_path, data_dir, image_size=None)
    assert not (tmp_path / "data").exists()


def test_a_damaged_file_is_named_and_nothing_is_kept(tmp_path):
    random = np.random.RandomState(0)
    for i in range(9):
        pixels = random.randint(0, 256, (40, 40, 3))
        save(tmp_path / "photos" / f"{i}.jpg", pixels)
    damaged = tmp_path / "photos" / "3.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"3\.jpg cannot be decoded; replace or"):
        load(tmp_path / "photos", tmp_path / "data", (32, 32))
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    damaged.unlink()
    assert load(tmp_path / "photos", tmp_path / "data", (32, 32)).num_classes == 1


@pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is not None, reason="Beam is installed"
)
def test_without_beam_an_error_says_so(folder, tmp_path):
    with pytest.raises(ImportError, match="pip install apache-beam"):
        load(folder, tmp_path, beam_options=object())


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["in_memory", "multi_processing"])
def test_beam_keeps_what_one_process_keeps(folder, data, tmp_path, monkeypatch, mode):
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed")
    from apache_beam.options.pipeline_options import PipelineOptions

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    options = PipelineOptions(
        runner="DirectRunner", direct_num_workers=2, direct_running_mode=mode
    )
    other = load(folder, tmp_path, beam_options=options)
    for ours, theirs in zip(groups(data), groups(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    unseen = ([*zip(*d.unseen_groups, strict=True)] for d in (data, other))
    for ours, theirs in zip(*unseen, strict=True):
        np.testing.assert_array_equal(np.concatenate(ours), np.concatenate(theirs))

"""Photographed and rendered scenes: how they are stored, and how they are read."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

import lps_tf as lps
from lps_tf.datasets import multi_illumination, rendering, scenes
from lps_tf.datasets.builders import multi_illumination as mi
from lps_tf.datasets.builders.prepared import missing
from tests.datasets.published_scenes import (
    CLASS_OF,
    FOLDERS,
    TEST,
    TRAIN,
    palette_map,
    write_scene,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*scenes of Multi-Illumination are in")
tfds.disable_progress_bar()

SPLITS = {
    "train": {"kingston_dining10", "main_experiment120"},
    "validation": {"main_drylab7"},
    "test": {"everett_kitchen2"},
}


def agreement(images, labels):
    """How much of images shows what their label maps say, (batch, height, width)."""
    level = 100 + 4.0 * np.asarray(labels)
    # Not at the edges of blocks, where downsampling and JPEG show in-between levels.
    return (np.abs(255 * np.asarray(images)[..., 0] - level) < 8).mean()


def light_shown(images):
    images = 255 * np.asarray(images)
    return np.rint((images[..., 0] - images[..., 1]).mean((-2, -1)) / 4)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    root = tmp_path_factory.mktemp("published")
    for folder in FOLDERS:
        write_scene(root / folder)
    return root


@pytest.fixture(scope="module")
def data_dir(published, tmp_path_factory):
    """Where mip 5 is prepared."""
    data_dir = tmp_path_factory.mktemp("tfds")
    multi_illumination(5, batch_size=1, data_dir=data_dir, manual_dir=published)
    return data_dir


@pytest.fixture(scope="module")
def small_dir(tmp_path_factory):
    """Where a few rendered scenes are."""
    return tmp_path_factory.mktemp("rendered")


def small_scenes(data_dir, **options):
    numbers = {"height": 16, "width": 24, "train": 3, "val": 1, "test": 2}
    return scenes(**{**numbers, "batch_size": 1, "data_dir": data_dir, **options})


def stored(data_dir, split, mip=5):
    builder = mi.MultiIllumination(config=f"mip{mip}", data_dir=data_dir)
    return list(builder.as_dataset(split=split).as_numpy_iterator())


def is_empty(folder):
    """Whether neither a data set nor a part of one is there."""
    names = [path.name for path in folder.rglob("*")]
    return not any("tfrecord" in n or "incomplete" in n or n == "1.0.0" for n in names)


# What is stored.


def test_the_splits_are_the_papers(data_dir):
    found = {
        split: {scene["scene"].decode() for scene in stored(data_dir, split)}
        for split in SPLITS
    }
    assert found == SPLITS
    assert mi.split_of("everett_dining1") == "test"
    assert mi.split_of("main_drylab210") == "validation"
    assert mi.split_of("main_220lobby") == mi.split_of("elm_drylab1") == "train"


def test_the_classes_are_in_alphabetical_order():
    assert len(mi.CLASSES) == 36
    assert mi.CLASSES[:3] == ("Brick", "Cardboard", "Carpet/rug")
    assert mi.CLASSES[34:] == ("Wood", "Other")
    assert list(mi.CLASSES[:35]) == sorted(mi.CLASSES[:35])


@pytest.mark.parametrize("split", SPLITS)
def test_label_maps_are_the_nearest_entries_of_the_palette(data_dir, split):
    for scene in stored(data_dir, split):
        indices = palette_map(scene["scene"].decode())
        rows = ((np.arange(125) + 0.5) * 1000 / 125).astype(int)
        columns = ((np.arange(187) + 0.5) * 1500 / 187).astype(int)
        expected = np.array(CLASS_OF)[indices[np.ix_(rows, columns)]]
        assert set(expected.ravel()) == set(range(36))
        same = scene["materials"][..., 0] == expected
        assert np.delete(same, 93, 1).all()  # column 93 is as near to 749 as to 750


def lanczos(size, new):
    """Downsampling of an axis, (new, size): a windowed sinc as wide as needed."""
    scale = size / new
    centre = (np.arange(new)[:, None] + 0.5) * scale
    x = (np.arange(size) + 0.5 - centre) / scale
    weights = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    return weights / weights.sum(1, keepdims=True)


def test_images_are_lanczos_downsampled(data_dir, published):
    data = multi_illumination(5, batch_size=1, data_dir=data_dir)
    (x, _), *_ = data.test
    with Image.open(published / FOLDERS[3] / "dir_0_mip2.jpg") as image:
        red = np.asarray(image)[..., 0]
    expected = lanczos(1000, 125) @ red @ lanczos(1500, 187).T
    # It is JPEG again. The bicubic filter is off by 0.64, others by 1 and more.
    assert np.abs(255 * x.numpy()[0, ..., 0] - expected).mean() < 0.5


def test_lights_are_in_order(data_dir):
    data = multi_illumination(5, batch_size=1, data_dir=data_dir)
    (x, y), (versions, labels) = next(iter(data.test)), next(iter(data.test_groups))
    assert data.perturbations == tuple(f"light {i}" for i in range(1, 25))
    assert light_shown(x)[0] == 0
    np.testing.assert_array_equal(light_shown(versions)[0], np.arange(1, 25))
    np.testing.assert_array_equal(y, labels)
    assert agreement(x, y) > 0.85 and agreement(versions[0], y) > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("mip, size", [(4, (250, 375)), (3, (500, 750))])
def test_other_sizes_and_scenes_side_by_side(published, tmp_path, mip, size):
    for folder in FOLDERS[1:]:
        (tmp_path / "flat").mkdir(exist_ok=True)
        (tmp_path / "flat" / Path(folder).name).symlink_to(published / folder)
    data = multi_illumination(
        mip, batch_size=1, data_dir=tmp_path, manual_dir=tmp_path / "flat"
    )
    assert data.name == f"Multi-Illumination mip {mip}"
    assert data.image_shape == (*size, 3)
    x, y = next(iter(data.test))
    assert x.shape == (1, *size, 3) and y.shape == (1, *size)
    assert agreement(x, y) > 0.9


# How it is read.


@pytest.mark.slow
def test_an_image_and_its_labels_are_cropped_and_flipped_together(data_dir):
    data = multi_illumination(5, batch_size=1, data_dir=data_dir)
    still = multi_illumination(5, batch_size=1, data_dir=data_dir, augment=False)
    maps = [y.numpy()[0] for _, y in still.train]
    for x, y in [*data.train, *data.train_perturbed.repeat(4)]:
        assert agreement(x, y) > 0.8  # 0.15 if one of them is flipped
    moves = set()
    for _, y in data.train.repeat(15):
        middle = y.numpy()[0, 10:-10, 10:-10]
        found = {
            (down - 10, right - 10, flip)
            for whole in maps
            for flip in (1, -1)
            for down in range(21)
            for right in range(21)
            if (whole[down:, right:][:105, :167][:, ::flip] == middle).all()
        }
        assert len(found) == 1
        moves |= found
    down, right, flips = (np.array(m) for m in zip(*moves, strict=True))
    assert {abs(down).max(), abs(right).max()} == {10} and set(flips) == {1, -1}


@pytest.mark.parametrize("pairing", ["with_original", "from_original"])
def test_pairs_are_two_lights_of_one_scene_moved_together(data_dir, pairing):
    data = multi_illumination(5, pairing, batch_size=1, data_dir=data_dir)
    first = []
    for x, x_perturbed in data.train_pairs.repeat(4):
        # Red is the same under all lights, but for JPEG; 48 if one is flipped.
        assert np.abs(255 * (x - x_perturbed)[..., 0]).mean() < 5
        assert light_shown(x)[0] != light_shown(x_perturbed)[0]
        first.append(light_shown(x)[0])
    assert (set(first) == {0}) == (pairing == "from_original")


def test_only_the_images_that_were_drawn_are_decoded(published, tmp_path, monkeypatch):
    image = mi._image

    def broken(file, width, height):
        if file.name != "dir_0_mip2.jpg":
            return b"not an image"
        return image(file, width, height)

    monkeypatch.setattr(mi, "_image", broken)
    data = multi_illumination(5, batch_size=1, data_dir=tmp_path, manual_dir=published)
    assert len([*data.train, *data.val, *data.test]) == 4  # all under light 0
    for other in (data.train_pairs, data.test_groups):
        with pytest.raises(tf.errors.InvalidArgumentError):
            list(other)


def test_pictures_are_stored_without_loss_and_splits_share_none(small_dir):
    def all_of(pairs):
        return {x.numpy().tobytes() for x, _ in pairs}

    data = small_scenes(small_dir, augment=False)
    assert data.name == "rendered scenes (25 lights), 16x24"
    assert data.perturbations == tuple(f"light {i}" for i in range(1, 25))
    more = small_scenes(small_dir, augment=False, train=4, val=3, test=4)
    other = small_scenes(small_dir, augment=False, seed=1)
    for name, first, count in (("train", 0, 3), ("val", 2**30, 1), ("test", 2**31, 2)):
        expected = [rendering.render(0, first + i, 16, 24) for i in range(count)]
        expected = {
            (s.images[0].astype(np.float32) / 255).tobytes(): s.materials
            for s in expected
        }
        found = {x.numpy().tobytes(): y.numpy()[0] for x, y in getattr(data, name)}
        assert found.keys() == expected.keys()
        for image in expected:
            np.testing.assert_array_equal(found[image], expected[image])
        # A larger data set moves no scene to another split.
        assert found.keys() < all_of(getattr(more, name))
        assert not found.keys() & all_of(getattr(other, name))
    sizes = [len(all_of(getattr(more, name))) for name in ("train", "val", "test")]
    union = all_of(more.train) | all_of(more.val) | all_of(more.test)
    assert sizes == [4, 3, 4] and len(union) == 11


# What goes wrong.


def test_data_that_is_not_there_gives_one_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        multi_illumination(4, data_dir=tmp_path / "tfds")
    message = str(error.value)
    for part in (
        "Multi-Illumination",
        str(tmp_path / "tfds" / "multi_illumination" / "mip4"),
        str(tmp_path / "tfds" / "downloads" / "manual"),
        f"{TRAIN}.zip",
        f"{TEST}.zip",
        "https://projects.csail.mit.edu/illumination",
        "stand-in: scenes of lps_tf.datasets",
    ):
        assert part in message
    assert not (tmp_path / "tfds").exists()
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "mine")):
        multi_illumination(4, data_dir=tmp_path, manual_dir=tmp_path / "mine")


def test_the_error_of_missing_data_names_all_there_is_to_know():
    message = str(missing("cifar10", "/data", "`tfds build cifar10`", "photos"))
    for part in ("cifar10", "/data", "`tfds build cifar10`", "photos of lps_tf"):
        assert part in message


def test_wrong_options_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"one of \[3, 4, 5\]. Received: mip=2"):
        multi_illumination(2, data_dir=tmp_path)
    for source in (multi_illumination, scenes):
        with pytest.raises(ValueError, match="Received: pairing=all"):
            source(pairing="all", data_dir=tmp_path)
    for name in ("height", "width"):
        with pytest.raises(ValueError, match=f"at least 16. Received: {name}=15"):
            scenes(**{name: 15}, data_dir=tmp_path)
    for name in ("train", "val", "test"):
        with pytest.raises(ValueError, match=f"at least 1. Received: {name}=0"):
            scenes(**{name: 0}, data_dir=tmp_path)
    with pytest.raises(ValueError, match="Received: seed=-1"):
        scenes(seed=-1, data_dir=tmp_path)
    assert is_empty(tmp_path)


def test_scenes_that_are_missing_are_counted(published, tmp_path, monkeypatch):
    def stop(*arguments):
        raise InterruptedError

    monkeypatch.setattr(mi, "_image", stop)
    options = {"data_dir": tmp_path, "manual_dir": published}
    found = pytest.warns(UserWarning, match="scenes of Multi-Illumination are in")
    with found as warned, pytest.raises(InterruptedError):
        multi_illumination(5, **options)
    messages = [str(w.message).split(" are in")[0] for w in warned]
    assert [m for m in messages if "Multi-Illumination" in m] == [
        "2 of the 960 train scenes of Multi-Illumination",
        "1 of the 25 validation scenes of Multi-Illumination",
        "1 of the 30 test scenes of Multi-Illumination",
    ]
    options["manual_dir"] = published / TRAIN
    with pytest.raises(ValueError, match=r"0 of the 30 test scenes.*unpack"):
        multi_illumination(5, **options)


def halved(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def as_colours(file):
    with Image.open(file) as image:
        image.convert("RGB").save(file)


def with_index_77(file):
    with Image.open(file) as image:
        image.putpixel((700, 500), 77)
        image.save(file)


def too_small(file):
    with Image.open(file) as image:
        image.resize((750, 500)).save(file)


@pytest.mark.parametrize(
    "name, damage, message",
    [
        ("dir_7_mip2.jpg", Path.unlink, "missing or broken"),
        ("dir_7_mip2.jpg", halved, "missing or broken"),
        ("dir_7_mip2.jpg", too_small, "1500x1000.*Received: mode RGB, 750x500"),
        ("materials_mip2.png", Path.unlink, "missing or broken"),
        ("materials_mip2.png", halved, "missing or broken"),
        ("materials_mip2.png", as_colours, "mode P.*Received: mode RGB"),
        ("materials_mip2.png", with_index_77, "0 to 40. Received: 77"),
    ],
)
def test_a_broken_scene_is_named_and_leaves_nothing(
    published, tmp_path, name, damage, message
):
    manual, scene = tmp_path / "manual", Path(FOLDERS[0]).name
    (manual / scene).mkdir(parents=True)
    for file in (published / FOLDERS[0]).iterdir():
        (manual / scene / file.name).hardlink_to(file)
    for folder in FOLDERS[2:]:
        (manual / Path(folder).name).symlink_to(published / folder)
    file = manual / scene / name
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content)
    damage(file)
    arguments = {"batch_size": 1, "data_dir": tmp_path / "tfds", "manual_dir": manual}
    with pytest.raises(ValueError, match=f"{scene}.*{name}.*{message}"):
        multi_illumination(5, **arguments)
    assert is_empty(tmp_path / "tfds")


@pytest.mark.slow
def test_an_interrupted_rendering_leaves_nothing_and_can_be_repeated(
    tmp_path, monkeypatch
):
    render, calls = rendering.render, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 5:  # in the second split
            raise KeyboardInterrupt
        return render(*arguments)

    monkeypatch.setattr(rendering, "render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small_scenes(tmp_path, train=4)
    assert is_empty(tmp_path)
    data = small_scenes(tmp_path, train=4)
    assert len(calls) == 5 + 7 and len(list(data.train)) == 4
    small_scenes(tmp_path, train=4)
    assert len(calls) == 5 + 7  # read, not rendered again


# What it is for.


@pytest.fixture(scope="module")
def lit():
    return {"height": 32, "width": 48, "train": 2, "val": 1, "test": 1}


@pytest.mark.slow
def test_a_set_learns_from_scenes(lit, small_dir):
    data = scenes(**lit, batch_size=2, data_dir=small_dir)
    pset = lps.PerturbationSet.from_network(
        "mi_unet",
        channels=(4, 4, 4),
        latents=(2, 2, 2),
        pool=((8, 12), (4, 6), (2, 3)),
    )
    pset.compile(
        keras.optimizers.Adam(1e-3), beta=1.0, run_eagerly=True, jit_compile=False
    )
    history = pset.fit(data.train_pairs, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"][0])


@pytest.mark.slow
def test_a_segmenter_learns_from_scenes(lit, small_dir):
    data = scenes(**lit, batch_size=2, data_dir=small_dir)
    segmenter = lps.networks.classifiers.Unet(data.num_classes, channels=(4, 4, 4))
    robust = lps.RobustClassifier(segmenter)
    robust.compile(keras.optimizers.Adam(1e-3), run_eagerly=True)
    history = robust.fit(
        data.train, validation_data=data.val, epochs=1, verbose=0
    ).history
    assert np.isfinite(history["loss"][0])
    assert 0 <= history["val_clean_accuracy"][0] <= 1


@pytest.mark.slow
def test_the_package_does_not_import_tfds():
    code = "import lps_tf, sys; sys.exit('tensorflow_datasets' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

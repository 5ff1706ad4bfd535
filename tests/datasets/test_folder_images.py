"""A user's own pairs in folders: what is read of the files, and when."""

import os
import tracemalloc

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from skimage.data import astronaut

import lps_tf as lps
from lps_tf.datasets.folders import paired_folders
from tests.datasets.image_folders import (
    columns,
    copies,
    dataset,
    numbers,
    save,
    small,
    solid,
)

# Content.


def contents(root, image, suffix, channels, image_size=None, **options):
    """What becomes of a file."""
    image.save(root / f"file{suffix}", **options)
    folders = copies(root, root / f"file{suffix}", root / f"file{suffix}")
    data = small(*folders, image_size, channels=channels)
    found = columns(data.test)[0][0]
    assert data.image_shape == found.shape and found.dtype == np.float32
    return found


NOISE = np.random.RandomState(0).randint(0, 256, (9, 14, 4), dtype=np.uint8)
GREY, RGB = NOISE[..., 0], NOISE[..., :3]
LUMA = RGB @ [0.299, 0.587, 0.114]
LEVELS = np.arange(0, 65536, 521)[: 9 * 14].reshape(9, 14)
PALETTE = Image.fromarray(GREY).convert("P")
PALETTE.putpalette([v for i in range(256) for v in (i, 255 - i, 7)])
AS_RGB = np.stack([GREY, 255 - GREY, np.full_like(GREY, 7)], -1)


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
@pytest.mark.parametrize(
    "image, grey, rgb",
    [
        (Image.fromarray(GREY), GREY, np.stack([GREY] * 3, -1)),
        (Image.fromarray(RGB), LUMA, RGB),
        (Image.fromarray(NOISE), LUMA, RGB),
        (Image.fromarray(GREY > 99), 255.0 * (GREY > 99), None),
        (PALETTE, AS_RGB @ [0.299, 0.587, 0.114], AS_RGB),
    ],
    ids=["grey", "rgb", "rgba", "bits", "palette"],
)
def test_what_was_saved_is_what_comes(tmp_path, image, grey, rgb, suffix):
    found = contents(tmp_path, image, suffix, 1)[..., 0]
    np.testing.assert_allclose(found, grey / 255, atol=0.51 / 255)
    if rgb is not None:
        (tmp_path / "rgb").mkdir()
        found = contents(tmp_path / "rgb", image, suffix, 3)
        np.testing.assert_array_equal(found, rgb.astype(np.float32) / 255)


def test_every_pipeline_reads_the_same(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "file.png")
    data = small(*copies(tmp_path, tmp_path / "file.png", tmp_path / "file.png"))
    parts = [
        *(data.train_pairs, data.val_pairs, data.test_pairs),
        *(data.train, data.val, data.test, data.train_perturbed, data.test_groups),
    ]
    expected = RGB.astype(np.float32) / 255
    for batch in (next(iter(part)) for part in parts):
        for images in batch:
            if images.dtype != tf.int64:
                assert (images.numpy() == expected).all()


def test_grey_with_transparency_and_16_bits_are_grey(tmp_path):
    for name, image, expected in (
        ("LA", Image.merge("LA", Image.fromarray(RGB).split()[:2]), GREY / 255),
        ("I;16", Image.fromarray(LEVELS.astype(np.uint16)), LEVELS / 65535),
    ):
        assert image.mode == name
        for channels in (1, 3):
            folder = tmp_path / f"{name}{channels}"
            folder.mkdir()
            found = contents(folder, image, ".png", channels)
            for c in range(channels):
                np.testing.assert_allclose(found[..., c], expected, atol=1 / 255)


@pytest.mark.parametrize(
    "mode, channels", [("RGB", 3), ("L", 1), ("L", 3), ("CMYK", 3)]
)
def test_jpegs_are_decoded_as_tensorflow_does(tmp_path, mode, channels):
    image = Image.fromarray(astronaut()[:120, :90]).convert(mode)
    found = contents(tmp_path, image, ".jpg", channels, quality=90)
    encoded = (tmp_path / "file.jpg").read_bytes()
    expected = tf.io.decode_jpeg(encoded, channels, dct_method="INTEGER_ACCURATE")
    difference = np.abs(found - expected.numpy() / 255)
    assert difference.max() <= 4 / 255 and difference.mean() < 0.5 / 255


def triangles(n, m):
    """Weights (m, n) of a linear filter as wide as the step between outputs."""
    step = n / m
    centres = (np.arange(m) + 0.5) * step - 0.5
    reach = np.abs(np.arange(n) - centres[:, None]) / max(step, 1)
    weights = np.maximum(1 - reach, 0)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("size", [(4, 5), (9, 5), (20, 31), (3, 28), (1, 1)])
def test_resizing_is_linear_and_smooths_what_shrinks(tmp_path, size):
    found = contents(tmp_path, Image.fromarray(RGB), ".png", 3, size)
    down, right = triangles(9, size[0]), triangles(14, size[1])
    expected = np.einsum("ij,kl,jlc->ikc", down, right, RGB / 255)
    np.testing.assert_allclose(found, expected, atol=1.5 / 255)


def test_large_jpegs_shrink_as_if_decoded_in_full(tmp_path):
    image = Image.fromarray(astronaut())
    found = contents(tmp_path, image, ".jpg", 3, (60, 50), quality=95)
    down, right = triangles(512, 60), triangles(512, 50)
    decoded = np.asarray(Image.open(tmp_path / "file.jpg")) / 255
    expected = np.einsum("ij,kl,jlc->ikc", down, right, decoded, optimize=True)
    assert np.abs(found - expected).mean() < 1.5 / 255
    # The nearest pixels, without smoothing, would be this far off.
    nearest = decoded[np.arange(60) * 512 // 60][:, np.arange(50) * 512 // 50]
    assert np.abs(nearest - expected).mean() > 6 / 255


def test_names_that_are_not_text_are_read(tmp_path):
    folders = dataset(tmp_path, [str(i) for i in range(12)])
    for folder in folders:
        try:
            os.rename(folder / "0.png", os.fsencode(folder) + b"/\xff.png")
        except OSError:
            pytest.skip("this file system takes text only")
    data = small(*folders)
    seen = numbers(data.val) + numbers(data.test)
    seen += [n for _ in range(9) for n in numbers(data.train)]
    assert set(seen) == set(range(12))


# From disk, as the data is iterated.


def test_files_are_read_when_they_are_needed(tmp_path):
    clean, dark = dataset(tmp_path, [str(i) for i in range(12)])
    data = small(clean, dark)
    before = numbers(data.test)
    for i in range(12):
        save(clean / f"{i}.png", solid(i + 500))
    assert numbers(data.test) == [n + 500 for n in before]


def test_only_paths_are_held(tmp_path, capsys):
    noise = np.random.RandomState(0).randint(0, 256, (100, 100, 3))
    save(tmp_path / "file.png", noise)
    file = tmp_path / "file.png"
    folders = copies(tmp_path, file, file, 1001)
    tracemalloc.start()
    paired_folders(*folders)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert file.stat().st_size > 30_000
    # Beyond the paths, room for what TensorFlow needs to trace the pipelines.
    assert peak / 2002 < 2000
    assert "checking images" in capsys.readouterr().out


def test_few_files_need_no_progress_bar(tmp_path, capsys):
    small(*dataset(tmp_path, [str(i) for i in range(12)]))
    assert capsys.readouterr().out == ""


# Training.


def models(data):
    keras.utils.set_random_seed(0)
    pset = lps.PerturbationSet.from_network("mnist_fc", latent_dim=2)
    pset.compile(keras.optimizers.Adam(1e-3))
    classifier = lps.networks.classifiers.small_cnn(
        data.image_shape, data.num_classes, filters=(4,), units=8
    )
    robust = lps.RobustClassifier(classifier)
    robust.compile(keras.optimizers.Adam(2e-2))
    return pset, robust


def photos(root, n=24):
    """Bright and dark photographs, as JPEG, with noise on the perturbed ones."""
    random = np.random.RandomState(0)
    for i in range(n):
        top = 8 * i
        image = astronaut()[top : top + 12, 100:112] // (4 if i % 2 else 1)
        name = f"{'dark' if i % 2 else 'bright'}/{i}.jpg"
        save(root / "clean" / name, image)
        noise = random.randint(-20, 20, image.shape)
        save(root / "noisy" / name, np.clip(image + noise, 0, 255))
    return root / "clean", root / "noisy"


@pytest.mark.slow
def test_sets_and_classifiers_train_from_files(tmp_path):
    data = small(*photos(tmp_path), batch_size=4)
    pset, robust = models(data)
    history = pset.fit(
        data.train_pairs, validation_data=data.val_pairs, epochs=5, verbose=0
    ).history
    assert history["loss"][-1] < history["loss"][0]
    assert history["val_loss"][-1] < history["val_loss"][0]
    assert pset.calibrate(data.val_pairs) > 0
    history = robust.fit(
        data.train, validation_data=data.val, epochs=12, verbose=0
    ).history
    assert history["clean_accuracy"][-1] > history["clean_accuracy"][0]
    assert history["val_clean_accuracy"][-1] > 0.9


@pytest.mark.slow
def test_a_file_that_cannot_be_decoded_is_named_by_fit(tmp_path):
    clean, noisy = photos(tmp_path)
    for file in noisy.rglob("*.jpg"):
        file.write_bytes(file.read_bytes()[:-30])
    data = small(clean, noisy)  # the headers are sound
    pset, robust = models(data)
    message = (
        rf"^{noisy}/(bright|dark)/\d+\.jpg cannot be decoded; replace or remove it"
    )
    with pytest.raises(ValueError, match=message):
        pset.fit(data.train_pairs, verbose=0)
    with pytest.raises(ValueError, match=message):
        robust.fit(data.train, validation_data=data.train_perturbed, verbose=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message[1:]):
        list(data.test_groups)
    for file in clean.rglob("*.jpg"):
        file.unlink()
    with pytest.raises(ValueError, match=rf"^{clean}/.*\.jpg cannot be decoded"):
        robust.fit(data.train, verbose=0)

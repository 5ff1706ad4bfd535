"""What is read of image files, and when; training from them."""

import os
import tracemalloc

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import ExifTags, Image, features
from skimage.data import astronaut

import lps_tf as lps
from lps_tf.datasets.folders import paired_folders
from lps_tf.datasets.image_files import Headers, decoder, suffixes
from tests.datasets.image_folders import (
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
    path = root / f"file{suffix}"
    image.save(path, **options)
    assert suffix.lower() in suffixes()
    headers = Headers()
    size = headers.read(str(path))
    assert dict(headers.sizes) == {size: [str(path)]} and not headers.floats
    size = image_size or size
    found = tf.function(decoder(size, channels))(tf.constant(os.fsencode(path)))
    assert found.shape == (*size, channels) and found.dtype == tf.float32
    return found.numpy()


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
        found = contents(tmp_path, image, suffix, 3)
        np.testing.assert_allclose(found, rgb / 255, atol=1e-6)


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
            found = contents(tmp_path, image, ".png", channels)
            for c in range(channels):
                np.testing.assert_allclose(found[..., c], expected, atol=1 / 255)


SIXTEEN = {
    "PNG": (".png", np.uint16),
    "TIFF": (".tif", np.uint16),
    "big-endian TIFF": (".TIFF", np.dtype(">u2")),
    "32-bit TIFF": (".tiff", np.int32),
    "PGM": (".pgm", np.uint16),
}


@pytest.mark.parametrize("name", SIXTEEN)
def test_all_kinds_of_16_bits_are_scaled(tmp_path, name):
    suffix, dtype = SIXTEEN[name]
    image = Image.fromarray(LEVELS.astype(dtype))
    found = contents(tmp_path, image, suffix, 1)[..., 0]
    np.testing.assert_allclose(found, LEVELS / 65535, atol=0.51 / 255)


def test_what_has_no_white_is_refused(tmp_path):
    image = Image.fromarray(GREY.astype(np.int32) << 20)
    with pytest.raises(tf.errors.InvalidArgumentError, match="no 8 or 16 bits"):
        contents(tmp_path, image, ".tiff", 1)
    file = tmp_path / "floats.tiff"
    Image.fromarray(GREY.astype(np.float32)).save(file)
    message = r"hold floats; save them in 8 or 16 bits \(24\): .*0.tiff"
    with pytest.raises(ValueError, match=message):
        small(*copies(tmp_path, file, file))


@pytest.mark.parametrize("suffix", ["tif", "webp", "gif", "tga", "ppm", "jp2", "avif"])
def test_every_format_of_pillow_is_read(tmp_path, suffix):
    if not features.check("jpg_2000" if suffix == "jp2" else "zlib") or (
        suffix in ("webp", "avif") and not features.check(suffix)
    ):
        pytest.skip(f"this Pillow does not know {suffix}")
    options = {"lossless": True} if suffix == "webp" else {}
    image = Image.fromarray(np.tile(np.uint8([30, 90, 200]), (9, 14, 1)))
    found = contents(tmp_path, image, f".{suffix}", 3, **options)
    np.testing.assert_allclose(found * 255, np.asarray(image), atol=2)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_images_are_turned_upright_as_exif_says(tmp_path, orientation, suffix):
    # What each orientation asks of the stored rows and columns.
    turned = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, -1),
        7: RGB[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(RGB),
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    image = Image.fromarray(RGB)
    found = contents(tmp_path, image, f".{suffix}", 3, exif=exif, **options)
    np.testing.assert_allclose(found * 255, turned, atol=6)
    # Where one size is asked for, the image is turned before it is stretched.
    size = (2 * turned.shape[0], 2 * turned.shape[1])
    found = contents(tmp_path, image, f".{suffix}", 3, size, exif=exif, **options)
    halved = found.reshape(len(turned), 2, -1, 2, 3).mean((1, 3))
    assert np.corrcoef(halved.ravel(), turned.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_colours_of_print_are_grey_too(tmp_path, suffix):
    image = Image.fromarray(np.tile(NOISE[:1, :1], (9, 14, 1)), "CMYK")
    expected = np.asarray(image.convert("RGB"))[0, 0]
    found = contents(tmp_path, image, f".{suffix}", 3)
    np.testing.assert_allclose(found[4, 4] * 255, expected, atol=4)
    found = contents(tmp_path, image, f".{suffix}", 1)
    grey = expected @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(found[4, 4] * 255, grey, atol=4)


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
    few = tmp_path / "few"
    few.mkdir()
    paired_folders(*copies(few, file, file, 10))  # imports what it needs
    tracemalloc.start()
    paired_folders(*folders)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert file.stat().st_size > 30_000
    # Beyond the paths, room for what TensorFlow needs to trace the pipelines, which on
    # Python 3.13 is more.
    assert peak / 2002 < 4000
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

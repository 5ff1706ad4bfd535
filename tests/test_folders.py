"""A user's own pairs in folders: what matches, what is told of the rest, content."""

import hashlib
import itertools
import os
import tracemalloc
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from skimage.data import astronaut

import lps_tf as lps
from lps_tf.datasets.folders import paired_folders
from lps_tf.datasets.matching import matched


def touch(folder, names):
    """Empty files: enough where only names are looked at."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)


def solid(number, size=(4, 4), version=0):
    """An image that tells its number, in red and green, and version, in blue."""
    colour = np.uint8([number // 256, number % 256, version])
    return np.tile(colour, (*size, 1))


def told(x):
    """Numbers and versions of images, (..., 2)."""
    red, green, blue = np.moveaxis(np.rint(np.asarray(x)[..., 0, 0, :] * 255), -1, 0)
    return np.stack([256 * red + green, blue], -1).astype(int)


def dataset(root, names, versions=("",), suffix=".png", size=(4, 4)):
    """Solid images: image i with one file for each of the versions."""
    for i, name in enumerate(names):
        save(root / "clean" / f"{name}{suffix}", solid(i, size))
        for j, version in enumerate(versions):
            save(root / "dark" / f"{name}{version}{suffix}", solid(i, size, 1 + j))
    return root / "clean", root / "dark"


def copies(root, clean, perturbed, n=12):
    """The same pair of files under n names, on disk once."""
    for folder, file in (("clean", clean), ("dark", perturbed)):
        (root / folder).mkdir()
        for i in range(n):
            os.link(file, root / folder / f"{i}{file.suffix}")
    return root / "clean", root / "dark"


def small(clean, dark, *args, **changes):
    options = {"batch_size": 2, "validation": 0.3, "test": 0.3, **changes}
    return paired_folders(clean, dark, *args, **options)


def columns(data):
    return [np.concatenate(c) for c in zip(*data.as_numpy_iterator(), strict=True)]


def numbers(data):
    """Which of the solid images a data set of (image, ...) holds."""
    return [int(n) for batch in data for n in told(batch[0])[..., 0]]


# Matching.


# Clean files, perturbed files, and the names of the clean images with those of their
# versions. The same names without suffix are in no case two images.
MATCHES = {
    "same name": ("cat.png", "cat.png", {"cat": "cat.png"}),
    "suffixes": ("a/b/cat.PNG", "a/b/cat.jPeG", {"a/b/cat": "a/b/cat.jPeG"}),
    "several": ("cat.bmp", "cat_1.png cat_a_b.jpg", {"cat": "cat_1.png cat_a_b.jpg"}),
    "folder": ("a/x.jpg", "a/x/1.png a/x/b.png", {"a/x": "a/x/1.png a/x/b.png"}),
    "longest": (
        "cat.png cat_1.png",
        "cat_1.png cat_2.png cat_1_x.png cat_1/y.png",
        {"cat": "cat_2.png", "cat_1": "cat_1.png cat_1/y.png cat_1_x.png"},
    ),
    "other folder": ("cat.png a/cat.png", "a/cat_1.png", {"a/cat": "a/cat_1.png"}),
    "folder or name": (
        "cat.png cat/1.png",
        "cat/1.png cat/2.png",
        {"cat": "cat/2.png", "cat/1": "cat/1.png"},
    ),
    "dots": (
        "v1.2.png v1.png",
        "v1.2.jpg v1_.jpg",
        {"v1": "v1_.jpg", "v1.2": "v1.2.jpg"},
    ),
    "characters": ("a[1].png ü.png", "a[1]_2.png", {"a[1]": "a[1]_2.png"}),
}


@pytest.mark.parametrize("clean, perturbed, expected", MATCHES.values(), ids=MATCHES)
def test_versions_are_found_by_name(tmp_path, clean, perturbed, expected):
    clean = clean.split()
    folders = touch(tmp_path / "c", clean), touch(tmp_path / "p", perturbed.split())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of clean images without version
        matches, _ = matched(*folders)
    found = {
        match.name: [os.path.relpath(path, folders[1]) for _, path in match.versions]
        for match in matches
    }
    assert found == {name: versions.split() for name, versions in expected.items()}
    for match in matches:
        path = os.path.relpath(match.path, folders[0])
        assert path in clean and os.path.splitext(path)[0] == match.name


def test_the_longest_clean_name_wins_among_many(tmp_path):
    random = np.random.RandomState(0)
    parts = ["a", "b", "a_b", "b_a", "a_", "_a", "a__b", "ab"]
    folders = ["", "a/", "b/", "a/b/", "a_b/"]
    every = ["".join(pair) for pair in itertools.product(folders, parts)]
    clean = list(random.choice(every, 12, replace=False))
    perturbed = every + [f"{name}/{part}" for name in every for part in parts[:3]]

    def fits(name, original):
        more = name.removeprefix(original)
        behind = more[:1] in ("_", "/") and "/" not in more[1:]
        return name == original or (name.startswith(original) and behind)

    expected = {}
    for name in sorted(set(perturbed)):
        fitting = [original for original in clean if fits(name, original)]
        if fitting:
            expected.setdefault(max(fitting, key=len), set()).add(name)
    touch(tmp_path / "c", [f"{name}.png" for name in clean])
    touch(tmp_path / "p", [f"{name}.png" for name in perturbed])
    with pytest.warns(UserWarning):
        matches, _ = matched(tmp_path / "c", tmp_path / "p")
    found = {
        match.name: {
            os.path.relpath(path, tmp_path / "p")[: -len(".png")]
            for _, path in match.versions
        }
        for match in matches
    }
    assert found == expected and len(found) > 6


def test_all_that_is_left_out_is_told_by_name_and_hidden_files_are_not(tmp_path):
    clean = touch(
        tmp_path / "c",
        ["cat.png", "notes.txt", "._cat.png", ".git/x.png"]
        + [f"alone{i}.png" for i in range(7)],
    )
    dark = touch(tmp_path / "p", ["cat.png", "catfish.png", "cat.tif", "cat/1/2.png"])
    with pytest.warns(UserWarning) as caught:
        matches, found = matched(clean, dark)
    assert [match.name for match in matches] == ["cat"]
    assert "8 clean images" in found and "3 perturbed" in found and "1 and 1" in found
    (warning,) = caught
    without, strays, others = str(warning.message).split("\n- ")[1:]
    shown = ", ".join(str(clean / f"alone{i}.png") for i in range(5))
    assert without == f"clean images without perturbed version (7): {shown}, ..."
    assert strays.endswith(f"(2): {dark / 'cat/1/2.png'}, {dark / 'catfish.png'}")
    assert others.endswith(f"(2): {clean / 'notes.txt'}, {dark / 'cat.tif'}")


def test_folders_that_are_links_are_followed(tmp_path):
    clean, dark = dataset(tmp_path / "real", ["a/0", "a/1"])
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a").symlink_to(clean / "a")
    assert len(matched(tmp_path / "c", dark)[0]) == 2


def test_warnings_point_at_the_caller(tmp_path):
    folders = dataset(tmp_path, [str(i) for i in range(12)])
    (tmp_path / "clean" / "alone.png").touch()
    with pytest.warns(UserWarning, match="alone.png") as caught:
        small(*folders)
    assert caught[0].filename == __file__


# Errors.


def test_nothing_in_common_is_an_error_that_shows_the_names(tmp_path):
    clean = touch(tmp_path / "c", ["a.png", "b.gif"])
    dark = touch(tmp_path / "p", ["rain-a.png"])
    with pytest.raises(ValueError) as error:
        paired_folders(clean, dark)
    message = str(error.value)
    for part in ("a.png", "rain-a.png", "b.gif", "1 clean", "1 perturbed", "0 and 0"):
        assert part in message


def test_two_clean_images_of_one_name_are_an_error(tmp_path):
    clean = touch(tmp_path / "c", ["a/x.png", "a/x.jpg", "a/y.png"])
    with pytest.raises(ValueError, match=r"a/x\.jpg, .*a/x\.png$"):
        paired_folders(clean, touch(tmp_path / "p", ["a/x.png", "a/y.png"]))


def test_folders_must_be_there_and_apart(tmp_path):
    (tmp_path / "c" / "p").mkdir(parents=True)
    (tmp_path / "p").mkdir()
    with pytest.raises(ValueError, match="`perturbed_dir` must be a folder.*nowhere"):
        paired_folders(tmp_path / "c", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="`clean_dir` must be a folder.*nowhere"):
        paired_folders(tmp_path / "nowhere", tmp_path / "p")
    for dark in (tmp_path / "c", tmp_path / "c" / "p", tmp_path / "p" / ".." / "c"):
        for pair in ((tmp_path / "c", dark), (dark, tmp_path / "c")):
            with pytest.raises(ValueError, match="must not lie one inside the other"):
                paired_folders(*pair)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"batch_size": 0}, "`batch_size` must be .* at least 1.*batch_size=0"),
        ({"image_size": 8}, r"must be \(height, width\).*image_size=8"),
        ({"image_size": (8, 8, 3)}, r"must be \(height, width\).*\(8, 8, 3\)"),
        ({"image_size": (8, 0)}, "`image_size` must be .* at least 1.*image_size=0"),
        ({"channels": 4}, "`channels` must be 1 or 3.*channels=4"),
        ({"validation": 0}, "`validation` must lie strictly between 0 and 1"),
        ({"test": 1.5}, "`test` must lie strictly between 0 and 1.*test=1.5"),
        ({"validation": 0.5, "test": 0.5}, "leave images to train on.*validation=0.5"),
        ({"pairing": "both"}, "`pairing` must be one of.*pairing=both"),
        ({"batch_size": 12}, r"batch_size=12, images=\d\. Found 12 clean images"),
        ({"test": 1e-9}, "test split.*another seed.*seed=0. Found 12 clean images"),
        ({"validation": 1e-9}, "validation split.*Found 12 clean images"),
        ({"validation": 0.5, "test": 0.499999}, "training split.*Found 12 clean"),
        ({"pairing": "among_perturbed"}, r"two versions.*12 have one: .*0\.png"),
    ],
)
def test_refuses_arguments(tmp_path, arguments, message):
    folders = dataset(tmp_path, [str(i) for i in range(12)])
    with pytest.raises(ValueError, match=message):
        small(*folders, **arguments)


def test_unreadable_files_and_sizes_are_named_all_at_once(tmp_path):
    clean, dark = dataset(tmp_path, [str(i) for i in range(12)])
    png = (clean / "0.png").read_bytes()
    (clean / "0.png").write_bytes(png[:-20])
    (dark / "1.png").write_bytes(png[:50] + bytes([png[50] ^ 1]) + png[51:])
    (clean / "2.png").write_text("no image")
    (dark / "3.png").write_bytes(b"")
    save(dark / "4.png", solid(4, (5, 4)))
    with pytest.raises(ValueError) as error:
        small(clean, dark)
    broken, sizes, unequal = str(error.value).split("\n- ")[1:]
    names = ["clean/0.png", "dark/1.png", "clean/2.png", "dark/3.png"]
    named = ", ".join(str(tmp_path / name) for name in names)
    assert broken == f"cannot be read (4): {named}"
    assert "(4, 4) in 19 (" in sizes and f"(5, 4) in 1 ({dark / '4.png'})" in sizes
    assert "2 sizes" in sizes and "Pass `image_size`" in sizes
    assert unequal.endswith(f"(1): {dark / '4.png'}")


def test_images_of_other_sizes_are_named_if_they_agree_within_the_pair(tmp_path):
    clean, dark = dataset(tmp_path, [str(i) for i in range(12)])
    for folder in (clean, dark):
        save(folder / "4.png", solid(4, (5, 4)))
    with pytest.raises(ValueError, match=r"\(5, 4\) in 2 \(.*4\.png, .*4\.png\)") as e:
        small(clean, dark)
    assert "than their clean image" not in str(e.value)


def test_other_aspect_ratios_within_a_pair_are_told_and_rounding_is_not(tmp_path):
    clean, dark = dataset(tmp_path, [str(i) for i in range(12)], size=(64, 48))
    save(dark / "3.png", solid(3, (33, 24)))  # a half, up to a row
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = small(clean, dark, (8, 6))
    assert data.image_shape == (8, 6, 3)
    save(dark / "5.png", solid(5, (48, 64)))
    message = rf"aspect ratio.*\(1\): {dark / '5.png'}$"
    with pytest.warns(UserWarning, match=message) as caught:
        small(clean, dark, (8, 6))
    assert caught[0].filename == __file__


# Labels and names.


def test_folders_are_classes(tmp_path):
    names = [f"{c}/deep/{i}" for i in range(10) for c in ("b", "a", "10", "9")]
    data = small(*dataset(tmp_path, names))
    assert data.class_names == ("10", "9", "a", "b") and data.classes == 4
    for part in (data.train, data.val, data.test, data.test_groups):
        x, y = columns(part)
        number = told(x)[:, 0] if x.ndim == 5 else told(x)
        expected = [names[n].split("/")[0] for n in number[:, 0]]
        assert [data.class_names[label] for label in y] == expected
    assert set(columns(data.train)[1]) == {0, 1, 2, 3}


def test_without_folders_there_is_one_class(tmp_path):
    data = small(*dataset(tmp_path, [str(i) for i in range(12)]))
    assert data.class_names == () and data.classes == 1
    assert set(columns(data.train)[1]) == {0}
    assert data.perturbations == ()
    assert data.name == "pairs of clean and dark"


def test_images_outside_of_class_folders_are_named(tmp_path):
    folders = dataset(tmp_path, [*(f"a/{i}" for i in range(12)), "top"])
    with pytest.warns(UserWarning, match="1 of 13 clean images.*top.png") as caught:
        data = small(*folders)
    assert caught[0].filename == __file__
    assert data.class_names == () and data.classes == 1


def test_common_names_of_versions_are_the_perturbations(tmp_path):
    names = [str(i) for i in range(12)]
    data = small(*dataset(tmp_path, names, ["_fog", "_rain"]))
    assert data.perturbations == ("fog", "rain")
    assert data.test_groups.element_spec[0].shape[1] == 2
    for group in columns(data.test_groups)[0]:
        assert told(group)[:, 1].tolist() == [1, 2]
    (tmp_path / "dark" / "3_fog.png").rename(tmp_path / "dark" / "3_snow.png")
    assert small(tmp_path / "clean", tmp_path / "dark").perturbations == ()


# Splits.


def split_of(data):
    return {part: numbers(getattr(data, part)) for part in ("val", "test")}


def test_splits_are_by_image_and_follow_the_names_alone(tmp_path):
    names = [f"{'ab'[i % 2]}/{i}" for i in range(300)]
    folders = dataset(tmp_path, names, ["_1", "_2"])
    data = paired_folders(*folders, batch_size=1, seed=3, validation=0.2, test=0.3)
    expected = {"train": set(), "val": set(), "test": set()}
    for i, name in enumerate(names):
        # Written out, so that no later version splits anybody's data anew.
        share = int(hashlib.sha256(f"3/{name}".encode()).hexdigest()[:16], 16) / 16**16
        part = "test" if share < 0.3 else "val" if share < 0.5 else "train"
        expected[part].add(i)
    for part, members in expected.items():
        assert len(members) > 40
        for kind in ("", "_pairs"):
            found = numbers(getattr(data, part + kind))
            assert set(found) == members
            each = 2 if kind and part != "train" else 1
            assert len(found) == each * len(members)
    assert set(told(columns(data.test_groups)[0])[:, 0, 0]) == expected["test"]
    # In an order without meaning: classes take turns.
    assert 0.3 < np.mean(np.diff(columns(data.test)[1]) != 0) < 0.7


def test_splits_stay_when_files_are_added(tmp_path):
    names = [str(i) for i in range(60)]
    before = split_of(small(*dataset(tmp_path, names)))
    after = split_of(small(*dataset(tmp_path, [*names, *(f"n{i}" for i in range(60))])))
    for part, members in before.items():
        assert [n for n in after[part] if n < 60] == members
        assert len(after[part]) > len(members)
    # A version more, or another suffix, is the same image.
    for path in (tmp_path / "clean").glob("n*.png"):
        path.rename(path.with_suffix(".PNG"))
        save(tmp_path / "dark" / f"{path.stem}_more.png", solid(0))
    assert split_of(small(tmp_path / "clean", tmp_path / "dark")) == after
    other = split_of(small(tmp_path / "clean", tmp_path / "dark", seed=1))
    assert set(other["test"]) != set(after["test"])


# Pairs.


def test_pairs_are_an_image_and_its_own_versions(tmp_path):
    names = [f"{i}" for i in range(20)]
    folders = dataset(tmp_path, names, ["", "_b", "_c"])
    data = small(*folders, batch_size=1)
    for part in (data.train_pairs, data.val_pairs, data.test_pairs):
        for x, x_perturbed in part:
            (number, version), (same, other) = told(x)[0], told(x_perturbed)[0]
            assert number == same and version == 0 and other in (1, 2, 3)
    x_perturbed = columns(data.val_pairs)[1]
    assert told(x_perturbed)[:3, 1].tolist() == [1, 2, 3]
    seen = {tuple(told(x)[0]) for _ in range(20) for x, _ in data.train_perturbed}
    assert {version for _, version in seen} == {0, 1, 2, 3}


def test_two_versions_make_a_pair_if_asked(tmp_path):
    folders = dataset(tmp_path, [str(i) for i in range(12)], ["_a", "_b"])
    for pairing, versions in (
        ("among_perturbed", {(1, 2), (2, 1)}),
        ("with_original", {(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)}),
    ):
        data = small(*folders, pairing=pairing)
        epochs = [columns(data.train_pairs) for _ in range(15)]
        x, x_perturbed = (told(np.concatenate(c)) for c in zip(*epochs, strict=True))
        np.testing.assert_array_equal(x[:, 0], x_perturbed[:, 0])
        assert set(zip(x[:, 1], x_perturbed[:, 1], strict=True)) == versions


def test_images_may_differ_in_their_number_of_versions(tmp_path):
    names = [str(i) for i in range(40)]
    clean, dark = dataset(tmp_path, names)
    for i in range(0, 40, 3):
        save(dark / f"{i}_more.png", solid(i, version=2))
    data = small(clean, dark)
    counts = {i: 2 if i % 3 == 0 else 1 for i in range(40)}
    groups = list(data.test_groups)
    for group, label in groups:
        (members,) = told(group)
        number = members[0, 0]
        assert members.tolist() == [[number, 1 + j] for j in range(counts[number])]
        assert label.shape == (1,)
    assert len(groups) == len(columns(data.test)[0])
    pairs = numbers(data.val_pairs)
    assert len(pairs) == sum(counts[i] for i in set(pairs))
    assert set(pairs) == set(numbers(data.val))
    assert len(data.train_pairs) == len(columns(data.train)[0]) // 2


def test_augmentation_is_for_training_alone(tmp_path):
    def invert(key, *parts):
        return tuple(1 - part for part in parts)

    folders = dataset(tmp_path, [str(i) for i in range(20)])
    data = small(*folders, augment=invert)
    x, x_perturbed = columns(data.train_pairs)
    for images in (x, x_perturbed, columns(data.train)[0]):
        assert (images[..., 0] == 1).all()
    for part in (data.val, data.val_pairs, data.test, data.test_pairs):
        assert (columns(part)[0][..., 0] == 0).all()


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
        data.image_shape, data.classes, filters=(4,), units=8
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

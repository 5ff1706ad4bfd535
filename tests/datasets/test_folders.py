"""A user's own pairs in folders: errors, labels, names and splits."""

import hashlib
import inspect
import warnings

import numpy as np
import pytest

from lps_tf.datasets.folders import paired_folders
from lps_tf.datasets.layout import split
from lps_tf.datasets.matching import Match
from tests.datasets.image_folders import (
    columns,
    dataset,
    numbers,
    save,
    small,
    solid,
    told,
    touch,
)


def test_warnings_point_at_the_caller(tmp_path):
    folders = dataset(tmp_path, [str(i) for i in range(12)])
    (tmp_path / "clean" / "alone.png").touch()
    with pytest.warns(UserWarning, match="alone.png") as caught:
        small(*folders)
    assert caught[0].filename == inspect.getfile(small)


# Errors.


def test_nothing_in_common_is_an_error_that_shows_the_names(tmp_path):
    clean = touch(tmp_path / "c", ["a.png", "b.doc"])
    dark = touch(tmp_path / "p", ["rain-a.png"])
    with pytest.raises(ValueError, match="must have the name") as error:
        paired_folders(clean, dark)
    message = str(error.value)
    for part in (
        "a.png",
        "rain-a.png",
        "b.doc",
        "`match`",
        "1 clean",
        "1 perturbed",
        "0 and 0",
    ):
        assert part in message


def test_two_clean_images_of_one_name_are_an_error(tmp_path):
    clean = touch(tmp_path / "c", ["a/x.png", "a/x.jpg", "a/y.png"])
    with pytest.raises(ValueError, match=r"a/x\.jpg, .*a/x\.png$"):
        paired_folders(clean, touch(tmp_path / "p", ["a/x.png", "a/y.png"]))


def test_folders_must_be_there_and_apart(tmp_path):
    (tmp_path / "c" / "p").mkdir(parents=True)
    (tmp_path / "p").mkdir()
    with pytest.raises(ValueError, match=r"`perturbed_dir` must be a folder.*nowhere"):
        paired_folders(tmp_path / "c", tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"`clean_dir` must be a folder.*nowhere"):
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
        ({"validation_split": 0}, "`validation_split` must lie strictly between 0 and"),
        ({"test_split": 1.5}, "`test_split` must lie strictly .*test_split=1.5"),
        ({"validation_split": 0.7}, "leave images to train on.*validation_split=0.7"),
        ({"pairing": "both"}, "`pairing` must be one of.*pairing=both"),
        ({"batch_size": 12}, r"batch_size=12, images=\d; .* Found 12 clean images"),
        ({"test_split": 0.699999}, "images to train on.*images=1; .*Found 12 clean"),
        ({"match": len}, r"a string that is not empty. Received: match\('0'\) = 1"),
        ({"match": lambda name: ""}, r"Received: match\('0'\) = '' for .*0.png"),
        ({"match": lambda name: name[9]}, "for '0' of .*0.png: IndexError: string"),
        ({"match": lambda name: "x"}, r"differ in their key \(`match`\).*0.png"),
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
    with pytest.raises(ValueError, match="cannot be used") as error:
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
    assert caught[0].filename == inspect.getfile(small)


# Labels and names.


def test_folders_are_classes(tmp_path):
    names = [f"{c}/deep/{i}" for i in range(10) for c in ("b", "a", "10", "9")]
    data = small(*dataset(tmp_path, names))
    assert data.class_names == ("10", "9", "a", "b") and data.num_classes == 4
    for part in (data.train, data.val, data.test, data.test_groups):
        x, y = columns(part)
        number = told(x)[:, 0] if x.ndim == 5 else told(x)
        expected = [names[n].split("/")[0] for n in number[:, 0]]
        assert [data.class_names[label] for label in y] == expected
    assert set(columns(data.train)[1]) == {0, 1, 2, 3}


def test_without_folders_there_is_one_class(tmp_path):
    data = small(*dataset(tmp_path, [str(i) for i in range(12)]))
    assert data.class_names == () and data.num_classes == 1
    assert set(columns(data.train)[1]) == {0}
    assert data.perturbations == ()
    assert data.name == "pairs of clean and dark"


def test_images_outside_of_class_folders_are_named(tmp_path):
    folders = dataset(tmp_path, [*(f"a/{i}" for i in range(12)), "top"])
    with pytest.warns(UserWarning, match="1 of 13 clean images.*top.png") as caught:
        data = small(*folders)
    assert caught[0].filename == inspect.getfile(small)
    assert data.class_names == () and data.num_classes == 1


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
    data = paired_folders(
        *folders, batch_size=1, seed=3, validation_split=0.2, test_split=0.3
    )
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


def test_twenty_pairs_are_enough_for_all_splits_at_the_defaults(tmp_path):
    for n in (20, 3):
        matches = [Match(str(i), str(i), []) for i in range(n)]
        for seed in range(100):
            fractions = {"test": 0.1, "validation": 0.1}
            parts = split(matches, [None] * n, fractions, seed).values()
            assert all(parts)
            assert sorted(int(m.name) for part in parts for m in part) == [*range(n)]
    folders = dataset(tmp_path, [str(i) for i in range(3)])
    data = paired_folders(*folders)
    for part in (data.train, data.train_pairs, data.val_pairs, data.test):
        assert len(numbers(part)) == 1
    (tmp_path / "clean" / "0.png").unlink()
    left_out = pytest.warns(UserWarning, match="left out")
    with left_out, pytest.raises(ValueError, match="images to train"):
        paired_folders(*folders)


def test_folders_of_splits_are_splits_and_no_classes(tmp_path):
    names = [f"{s}/{i}" for s in ("train", "Val", "test") for i in range(4)]
    data = small(*dataset(tmp_path / "all", names))
    assert data.class_names == () and set(columns(data.train)[1]) == {0}
    for i, part in enumerate((data.train, data.val, data.test)):
        assert set(numbers(part)) == set(range(4 * i, 4 * i + 4))

    # Classes inside; no folder to validate on.
    names = [f"{s}/{c}/{i}" for s in ("train", "test") for c in "ab" for i in range(9)]
    data = small(*dataset(tmp_path / "two", names))
    assert data.class_names == ("a", "b")
    train, val = set(numbers(data.train)), set(numbers(data.val))
    assert set(numbers(data.test)) == set(range(18, 36))
    assert val and not train & val and train | val <= set(range(18))

    # A train may be a vehicle.
    names = [f"{c}/{i}" for c in ("car", "train") for i in range(9)]
    with pytest.warns(UserWarning, match="named train are taken for classes") as caught:
        data = small(*dataset(tmp_path / "cars", names))
    assert caught[0].filename == inspect.getfile(small)
    assert data.class_names == ("car", "train")


# Pairs.


def test_pairs_are_an_image_and_its_own_versions(tmp_path):
    names = [f"{i}" for i in range(20)]
    folders = dataset(tmp_path, names, ["", "_b", "_c"])
    data = small(*folders)
    for part in (data.train_pairs, data.val_pairs, data.test_pairs):
        x, x_perturbed = (told(c) for c in columns(part))
        np.testing.assert_array_equal(x[:, 0], x_perturbed[:, 0])
        assert (x[:, 1] == 0).all() and set(x_perturbed[:, 1]) <= {1, 2, 3}
    x_perturbed = columns(data.val_pairs)[1]
    assert told(x_perturbed)[:3, 1].tolist() == [1, 2, 3]
    seen = np.concatenate([told(x) for _ in range(6) for x, _ in data.train_perturbed])
    assert set(seen[:, 1]) == {0, 1, 2, 3}


def test_two_versions_make_a_pair_if_asked(tmp_path):
    folders = dataset(tmp_path, [str(i) for i in range(12)], ["_a", "_b"])
    for pairing, versions in (
        ("among_perturbed", {(1, 2), (2, 1)}),
        ("with_original", {(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)}),
    ):
        data = small(*folders, pairing=pairing)
        epochs = [columns(data.train_pairs) for _ in range(3)]
        x, x_perturbed = (told(np.concatenate(c)) for c in zip(*epochs, strict=True))
        np.testing.assert_array_equal(x[:, 0], x_perturbed[:, 0])
        assert set(zip(x[:, 1], x_perturbed[:, 1], strict=True)) <= versions


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

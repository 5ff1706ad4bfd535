"""Which files of two folders belong together, and what is told of the rest."""

import itertools
import os
import re
import warnings

import numpy as np
import pytest

from lps_tf.datasets.matching import matched
from tests.datasets.image_folders import (
    columns,
    dataset,
    save,
    small,
    solid,
    told,
    touch,
)

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
    with pytest.warns(UserWarning, match="left out"):
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
    dark = touch(tmp_path / "p", ["cat.png", "catfish.png", "cat.doc", "cat/1/2.png"])
    with pytest.warns(UserWarning, match="left out") as caught:
        matches, found = matched(clean, dark)
    assert [match.name for match in matches] == ["cat"]
    assert "8 clean images" in found and "3 perturbed" in found and "1 and 1" in found
    (warning,) = caught
    without, strays, others = str(warning.message).split("\n- ")[1:]
    shown = ", ".join(str(clean / f"alone{i}.png") for i in range(5))
    assert without == f"clean images without perturbed version (7): {shown}, ..."
    assert strays.endswith(f"(2): {dark / 'cat/1/2.png'}, {dark / 'catfish.png'}")
    assert others.endswith(f"(2): {clean / 'notes.txt'}, {dark / 'cat.doc'}")


# The names of clean images and versions, and what matches them.
PATTERNS = {
    "prefix": ("norain-{}", ["rain-{}"], lambda name: name.split("-")[-1], "rain"),
    "suffix": ("{}_clean", ["{}_rain", "{}_fog"], lambda name: name.split("_")[0], "?"),
    "inside": ("img{}a", ["x{}b"], lambda name: re.search(r"\d+", name).group(), None),
}


@pytest.mark.parametrize("case", PATTERNS)
def test_a_function_matches_names_of_any_pattern(tmp_path, case):
    clean_name, versions, match, perturbation = PATTERNS[case]
    for i in range(12):
        folder = "ab"[i % 2]
        save(tmp_path / "clean" / folder / f"{clean_name.format(i)}.png", solid(i))
        for j, version in enumerate(sorted(versions)):
            path = tmp_path / "dark" / folder / f"{version.format(i)}.jpg"
            save(path.with_suffix(".png"), solid(i, version=1 + j))
    data = small(tmp_path / "clean", tmp_path / "dark", match=match)
    assert data.class_names == ("a", "b")
    expected = {"rain": ("rain",), "?": ("fog", "rain"), None: ()}[perturbation]
    assert data.perturbations == expected
    for x, x_perturbed in (columns(data.val_pairs), columns(data.train_pairs)):
        np.testing.assert_array_equal(told(x)[:, 0], told(x_perturbed)[:, 0])
        assert (told(x)[:, 1] == 0).all() and (told(x_perturbed)[:, 1] > 0).all()
    # The same key in another folder is another image.
    with pytest.raises(ValueError, match="0 and 0 match"):
        small(tmp_path / "clean" / "a", tmp_path / "dark" / "b", match=match)


def test_folders_that_are_links_are_followed(tmp_path):
    clean, dark = dataset(tmp_path / "real", ["a/0", "a/1"])
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a").symlink_to(clean / "a")
    assert len(matched(tmp_path / "c", dark)[0]) == 2

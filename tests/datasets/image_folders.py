"""Folders of small images that tell what they are."""

import os

import numpy as np
from PIL import Image

from lps_tf.datasets.folders import paired_folders


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
    options = {"batch_size": 2, "validation_split": 0.3, "test_split": 0.3, **changes}
    return paired_folders(clean, dark, *args, **options)


def columns(data):
    return [np.concatenate(c) for c in zip(*data.as_numpy_iterator(), strict=True)]


def numbers(data):
    """Which of the solid images a data set of (image, ...) holds."""
    return [int(n) for batch in data for n in told(batch[0])[..., 0]]

"""A user's own pairs: a folder of clean images and one of their perturbed versions."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf.datasets import layout
from lps_tf.datasets.base import PairData
from lps_tf.datasets.image_files import decoder
from lps_tf.datasets.matching import KeyFunction, Match, few, matched
from lps_tf.datasets.pipelines.stored import Groups, check_pairing, grouped_data

_BATCH_SIZE = 32


def paired_folders(
    clean_dir: str | Path,
    perturbed_dir: str | Path,
    image_size: tuple[int, int] | None = None,
    *,
    match: KeyFunction | None = None,
    batch_size: int | None = None,
    pairing: str = "from_original",
    validation_split: float = 0.1,
    test_split: float = 0.1,
    augment: Callable[..., tuple] | None = None,
    channels: int = 3,
    seed: int = 0,
) -> PairData:
    """Makes pairs of the image files of two folders that belong together by name.

    Perturbed versions of the clean image `a/b/cat.png` are, under `perturbed_dir`,

        a/b/cat.jpg          the same name, with any of the suffixes,
        a/b/cat_rain.png     the name, an underscore and more, as many as there are,
        a/b/cat/rain.png     every image in a folder of that name.

    Where several clean images fit, the longest name wins: `cat_1.png` is a version of
    a clean `cat_1.png` if there is one, and of `cat.png` otherwise. For names of
    another pattern, `match` says what an image and its versions have in common:

        match=lambda name: name.split("-")[-1]      # norain-1.png and rain-1.png
        match=lambda name: name.split("_")[0]       # 1_clean.png and 1_rain.png

    Files may be of every format that Pillow decodes. Hidden ones are skipped; files
    without a counterpart are left out with a warning.

    If every clean image lies in a folder inside `clean_dir`, these folders are the
    classes, sorted by name: see `class_names`. Otherwise there is one class. If all
    images have versions of the same names (rain, fog), these are `perturbations`.

    An image's name and the seed alone decide about its split, and its versions go
    with it: files added later move no other, and every machine splits alike. Only of
    very few images, a split that would be empty has the one nearest to it. Folders
    train, val (or validation) and test, if all images are in such, are no classes but
    the splits; one that is not there is taken from train. Folders inside of them are
    the classes then.

    Images are read as the data is iterated; only their paths are in memory. A damaged
    file that shows itself only then ends `fit` with a ValueError that names it. Images
    are turned upright, as their EXIF data says, and become grey or RGB, without
    transparency, in 8 bits.

    Example:
        data = lps.datasets.paired_folders("photos/dry", "photos/rain", (64, 64))
        pset.fit(data.train_pairs, validation_data=data.val_pairs, epochs=20)

    Args:
        clean_dir: Folder of the clean images.
        perturbed_dir: Folder of the perturbed ones, with the same folders inside.
        image_size: (height, width) to which images are resized, with antialiasing,
            and stretched where their aspect ratio is another; None if all images
            have one size already.
        match: Function from the name of a file, without folder and suffix, to a key, a
            string. Images of the same key in the same folder belong together. None
            goes by names, as above.
        batch_size: Size of training batches; incomplete ones are dropped. None takes
            32, or as many as there are images to train on.
        pairing: "from_original" trains on a clean image and one of its versions,
            "with_original" on any two among all of these, "among_perturbed" on two
            versions. Validation and test pairs are the clean image with each version.
        validation_split: Fraction of the clean images to validate and calibrate on.
        test_split: Fraction of the clean images to report on.
        augment: Function such as `pairing.crop_and_flip` makes, for training images;
            None leaves them as they are.
        channels: 1 for grey images, 3 for RGB.
        seed: Seed of the split and of everything random.

    Returns:
        Pipelines of images (batch, height, width, channels), floats in [0, 1]. Batches
        of `test_groups` hold one image if test images differ in their number of
        versions.

    Raises:
        ValueError: For bad arguments, a folder that is not there, names that do not
            match or stand for two clean images, files that cannot be read, several
            sizes without `image_size`, fewer than three images, or fewer training
            images than `batch_size`.
    """
    check_pairing(pairing)
    image_size, fractions = layout.checked(
        image_size, channels, validation_split, test_split
    )
    clean_dir, perturbed_dir = Path(clean_dir).resolve(), Path(perturbed_dir).resolve()
    _check_folders(clean_dir, perturbed_dir)

    matches, found = matched(clean_dir, perturbed_dir, match)
    matches, given = layout.given_splits(matches)
    splits = layout.split(matches, given, fractions, seed)
    count = len(splits["training"])
    batch_size = min(_BATCH_SIZE, max(count, 1)) if batch_size is None else batch_size
    if count < checks.count("batch_size", batch_size):
        raise ValueError(
            "There must be images to train on, at least `batch_size`. Received: "
            f"batch_size={batch_size}, images={count}; for validation "
            f"{len(splits['validation'])}, for test {len(splits['test'])}. {found}"
        )
    single = [match.path for match in matches if len(match.versions) < 2]
    if pairing == "among_perturbed" and single:
        raise ValueError(
            '`pairing="among_perturbed"` needs two versions of each clean image. '
            f"{len(single)} have one: {few(single)}"
        )
    size = layout.common_size(matches, image_size)

    class_names = layout.class_names(matches)
    train, val, test = (
        _groups(splits[name], class_names)
        for name in ("training", "validation", "test")
    )
    data = grouped_data(
        f"pairs of {clean_dir.name} and {perturbed_dir.name}",
        max(1, len(class_names)),
        Groups(train, val, test, decoder(size, channels)),
        pairing=pairing,
        batch_size=batch_size,
        augment=augment,
        seed=seed,
        perturbations=_version_names(matches),
    )
    return replace(data, class_names=class_names)


def _check_folders(clean_dir: Path, perturbed_dir: Path) -> None:
    for name, folder in (("clean_dir", clean_dir), ("perturbed_dir", perturbed_dir)):
        if not folder.is_dir():
            raise ValueError(f"`{name}` must be a folder. Received: {name}={folder}")
    folders = clean_dir, perturbed_dir
    if any(a.is_relative_to(b) for a, b in (folders, folders[::-1])):
        raise ValueError(
            "`clean_dir` and `perturbed_dir` must not lie one inside the other. "
            f"Received: clean_dir={clean_dir}, perturbed_dir={perturbed_dir}"
        )


def _version_names(matches: list[Match]) -> tuple[str, ...]:
    """The names of the versions, if they are the same for all images."""
    first, *others = ([name for name, _ in match.versions] for match in matches)
    return tuple(first) if all(first) and all(n == first for n in others) else ()


def _groups(matches: list[Match], class_names: tuple[str, ...]) -> tf.data.Dataset:
    """Groups of paths, with the index of the class."""
    # As bytes: not every file name is text.
    paths = [os.fsencode(match.path) for match in matches]
    versions = [os.fsencode(path) for match in matches for _, path in match.versions]
    counts = [len(match.versions) for match in matches]
    if len(set(counts)) == 1:
        versions = tf.reshape(versions, (len(matches), counts[0]))
    else:
        versions = tf.RaggedTensor.from_row_lengths(versions, counts)
    indices = {name: index for index, name in enumerate(class_names)}
    labels = [indices.get(layout.first_folder(match), 0) for match in matches]
    return tf.data.Dataset.from_tensor_slices(
        (paths, versions, np.array(labels, np.int64))
    )

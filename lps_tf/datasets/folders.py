"""A user's own pairs: a folder of clean images and one of their perturbed versions."""

import hashlib
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from lps_tf._internal import checks
from lps_tf.datasets.base import PairData
from lps_tf.datasets.matching import Match, common_size, few, matched
from lps_tf.datasets.pipelines.stored import Groups, check_pairing, grouped_data

_MODES = {1: "L", 3: "RGB"}


def paired_folders(
    clean_dir: str | Path,
    perturbed_dir: str | Path,
    image_size: tuple[int, int] | None = None,
    *,
    batch_size: int = 32,
    pairing: str = "from_original",
    validation: float = 0.1,
    test: float = 0.1,
    augment: Callable[..., tuple] | None = None,
    channels: int = 3,
    seed: int = 0,
) -> PairData:
    """Pairs of PNG, JPEG and BMP files that belong together by their names.

    Perturbed versions of the clean image `a/b/cat.png` are, under `perturbed_dir`,

        a/b/cat.jpg          the same name, with any of the suffixes,
        a/b/cat_rain.png     the name, an underscore and more, as many as there are,
        a/b/cat/rain.png     every image in a folder of that name.

    Where several clean images fit, the longest name wins: `cat_1.png` is a version of
    a clean `cat_1.png` if there is one, and of `cat.png` otherwise. Hidden files are
    skipped; files without a counterpart are left out with a warning.

    If every clean image lies in a folder inside `clean_dir`, these folders are the
    classes, sorted by name: see `class_names`. Otherwise there is one class. If all
    images have versions of the same names (rain, fog), these are `perturbations`.

    An image's name and the seed alone decide about its split, and its versions go
    with it: files added later move no other, and every machine splits alike. Images
    are read as the data is iterated; only their paths are in memory. A damaged file
    that shows itself only then ends `fit` with a ValueError that names it.

    Images are taken as they are stored (the orientation in a camera's EXIF data is
    not applied) and become grey or RGB, without transparency and in 8 bits.

    Example:
        data = lps.datasets.paired_folders("photos/dry", "photos/rain", (64, 64))
        pset.fit(data.train_pairs, validation_data=data.val_pairs, epochs=20)

    Args:
        clean_dir: folder of the clean images.
        perturbed_dir: folder of the perturbed ones, with the same folders inside.
        image_size: (height, width) to which images are resized, with antialiasing,
            and stretched where their aspect ratio is another; None if all images
            have one size already.
        batch_size: of training; incomplete training batches are dropped.
        pairing: "from_original" trains on a clean image and one of its versions,
            "with_original" on any two among all of these, "among_perturbed" on two
            versions. Validation and test pairs are the clean image with each version.
        validation: fraction of the clean images to validate and calibrate on.
        test: fraction of the clean images to report on.
        augment: of `pairing.crop_and_flip`, for training; None for none.
        channels: 1 for grey images, 3 for RGB.
        seed: of the split and of everything random.

    Returns:
        Pipelines of images (batch, height, width, channels), floats in [0, 1]. Batches
        of `test_groups` hold one image if test images differ in their number of
        versions.

    Raises:
        ValueError: for bad arguments, a folder that is not there, names that do not
            match or stand for two clean images, files that cannot be read, several
            sizes without `image_size`, an empty split, or fewer training images than
            `batch_size`.
    """
    batch_size = checks.count("batch_size", batch_size)
    check_pairing(pairing)
    if channels not in _MODES:
        raise ValueError(f"`channels` must be 1 or 3. Received: channels={channels}")
    if image_size is not None:
        image_size = _checked_size(image_size)
    validation = checks.probability("validation", validation)
    test = checks.probability("test", test)
    if validation + test >= 1:
        raise ValueError(
            "`validation` and `test` must leave images to train on. "
            f"Received: validation={validation}, test={test}"
        )
    clean_dir, perturbed_dir = Path(clean_dir).resolve(), Path(perturbed_dir).resolve()
    _check_folders(clean_dir, perturbed_dir)

    matches, found = matched(clean_dir, perturbed_dir)
    splits = _split(matches, validation, test, seed)
    for name, split in splits.items():
        if not split:
            raise ValueError(
                f"No image falls into the {name} split. Use more images, another seed "
                f"or other fractions. Received: validation={validation}, test={test}, "
                f"seed={seed}. {found}"
            )
    if len(splits["training"]) < batch_size:
        raise ValueError(
            "`batch_size` must be at most the number of training images. Received: "
            f"batch_size={batch_size}, images={len(splits['training'])}. {found}"
        )
    single = [match.path for match in matches if len(match.versions) < 2]
    if pairing == "among_perturbed" and single:
        raise ValueError(
            '`pairing="among_perturbed"` needs two versions of each clean image. '
            f"{len(single)} have one: {few(single)}"
        )
    size = common_size(matches, image_size)

    class_names = _class_names(matches)
    train, val, test = (_groups(split, class_names) for split in splits.values())
    data = grouped_data(
        f"pairs of {clean_dir.name} and {perturbed_dir.name}",
        max(1, len(class_names)),
        Groups(train, val, test, _decoder(size, channels)),
        pairing=pairing,
        batch_size=batch_size,
        augment=augment,
        seed=seed,
        perturbations=_version_names(matches),
    )
    return replace(data, class_names=class_names)


def _checked_size(image_size: tuple[int, int]) -> tuple[int, int]:
    try:
        height, width = image_size
    except (TypeError, ValueError):
        raise ValueError(
            f"`image_size` must be (height, width). Received: image_size={image_size}"
        ) from None
    return checks.count("image_size", height), checks.count("image_size", width)


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


def _split(
    matches: list[Match], validation: float, test: float, seed: int
) -> dict[str, list[Match]]:
    """Training, validation and test images, each in an order without meaning."""

    def share(match: Match) -> float:
        digest = hashlib.sha256(os.fsencode(f"{seed}/{match.name}")).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    # Not by class: training shuffles no more than a part of the images at once.
    shares = sorted((share(match), match) for match in matches)
    held_out = validation + test
    return {
        "training": [match for s, match in shares if s >= held_out],
        "validation": [match for s, match in shares if test <= s < held_out],
        "test": [match for s, match in shares if s < test],
    }


def _class_names(matches: list[Match]) -> tuple[str, ...]:
    outside = [match.path for match in matches if "/" not in match.name]
    if not outside:
        return tuple(sorted({_folder(match) for match in matches}))
    if len(outside) < len(matches):
        warnings.warn(
            f"{len(outside)} of {len(matches)} clean images lie in no folder of their "
            f"class, so that folders are no classes and all labels 0: {few(outside)}",
            stacklevel=3,
        )
    return ()


def _folder(match: Match) -> str:
    return match.name.partition("/")[0]


def _version_names(matches: list[Match]) -> tuple[str, ...]:
    """The names of the versions, if they are the same for all images."""
    first, *others = ([name for name, _ in match.versions] for match in matches)
    return tuple(first) if all(first) and all(n == first for n in others) else ()


def _groups(matches: list[Match], class_names: tuple[str, ...]) -> tf.data.Dataset:
    """Groups of paths, with the number of the class."""
    # As bytes: not every file name is text.
    paths = [os.fsencode(match.path) for match in matches]
    versions = [os.fsencode(path) for match in matches for _, path in match.versions]
    counts = [len(match.versions) for match in matches]
    if len(set(counts)) == 1:
        versions = tf.reshape(versions, (len(matches), counts[0]))
    else:
        versions = tf.RaggedTensor.from_row_lengths(versions, counts)
    numbers = {name: number for number, name in enumerate(class_names)}
    labels = [numbers.get(_folder(match), 0) for match in matches]
    return tf.data.Dataset.from_tensor_slices((paths, versions, np.int64(labels)))


def _decoder(size: tuple[int, int], channels: int) -> Callable[[tf.Tensor], tf.Tensor]:
    height, width = size

    def read(path: bytes) -> np.ndarray:
        path = os.fsdecode(path)
        try:
            with Image.open(path) as image:
                # A large JPEG comes at a half, a quarter or an eighth of its size,
                # as long as that is twice what is wanted.
                image.draft(_MODES[channels], (2 * width, 2 * height))
                if image.mode == "I;16":  # which `convert` would clip to 8 bits
                    image = image.point(lambda value: value / 256)
                image = image.convert(_MODES[channels])
                if image.size != (width, height):
                    image = image.resize((width, height), Image.Resampling.BILINEAR)
                return np.asarray(image).reshape(height, width, channels)
        except Exception as error:
            raise ValueError(
                f"{checks.MARK} {path} cannot be decoded; replace or remove it. "
                f"Pillow says: {error}"
            ) from None

    def decode(path: tf.Tensor) -> tf.Tensor:
        # With Pillow, because TensorFlow's own decoders do not say which file is
        # damaged and refuse some kinds of BMP and JPEG.
        image = tf.numpy_function(read, [path], tf.uint8, stateful=False)
        image = tf.ensure_shape(image, (height, width, channels))
        return tf.cast(image, tf.float32) / 255

    return decode

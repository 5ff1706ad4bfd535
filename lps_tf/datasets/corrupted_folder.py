"""A user's own images with the common corruptions."""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lps_tf._internal import checks
from lps_tf._internal.progress import quiet
from lps_tf.corruptions import OUT_OF_DISTRIBUTION, PAPER
from lps_tf.datasets import layout
from lps_tf.datasets.base import PairData
from lps_tf.datasets.matching import few, single
from lps_tf.datasets.photographs import corrupted_data
from lps_tf.datasets.pipelines.stored import check_pairing

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

    from lps_tf.datasets.builders.folder import Files, LpsCorruptedFolder

# The splits by the names that TensorFlow Datasets has for them.
_SPLITS = {"train": "training", "validation": "validation", "test": "test"}


def corrupted_folder(
    directory: str | Path,
    image_size: tuple[int, int] | None = None,
    *,
    severity: int = 5,
    batch_size: int = 32,
    pairing: str = "from_original",
    validation_split: float = 0.1,
    test_split: float = 0.1,
    augment: Callable[..., tuple] | None = None,
    channels: int = 3,
    data_dir: str | Path | None = None,
    beam_options: "PipelineOptions | None" = None,
    seed: int = 0,
) -> PairData:
    """Pairs the image files of a folder with the paper's twelve corruptions.

    Classes, splits and files are those of `paired_folders`: if every image lies in a
    folder inside of `directory`, these folders are the classes, and folders train, val
    and test are the splits. Unseen are Gaussian blur, spatter and saturate.

    The first call corrupts all images and keeps them through TensorFlow Datasets, each
    image and its versions without compression; later ones read them. Files that were
    added, removed or changed are a data set of their own, which is prepared anew.

    Many images are prepared by many processes or machines with Apache Beam, which has
    to be installed (`pip install apache-beam`). What is kept is the same, but for the
    files that it is divided into:

        from apache_beam.options.pipeline_options import PipelineOptions

        options = PipelineOptions(runner="DirectRunner", direct_num_workers=8,
                                  direct_running_mode="multi_processing")
        data = lps.datasets.corrupted_folder("photos", (64, 64), beam_options=options)

    Args:
        directory: Folder of the images; with Beam, all of its workers see it.
        image_size: (height, width), at least 16, to which images are resized, with
            antialiasing, and stretched where their aspect ratio is another; None if all
            images have one size already.
        severity: Strength of the corruptions, 1 to 5.
        batch_size: Size of training batches; incomplete ones are dropped.
        pairing: How to pair; see `cifar10_corrupted`.
        validation_split: Fraction of the images to validate and calibrate on.
        test_split: Fraction of the images to report on.
        augment: Function such as `pairing.crop_and_flip` makes, for training images;
            None leaves them as they are.
        channels: 1 for grey images, 3 for RGB.
        data_dir: Where to keep the corrupted images, default TensorFlow Datasets's own
            folder.
        beam_options: Apache Beam's `PipelineOptions`; None prepares in this process.
        seed: Seed of the split, the order and the pairs. The corruptions depend on the
            image's place in its split alone.

    Raises:
        ValueError: For bad arguments, a folder that is not there or has fewer than
            three images, files that cannot be read, several sizes without
            `image_size`, or fewer training images than `batch_size`.
        ImportError: If `beam_options` is given and Apache Beam is not installed.
    """
    check_pairing(pairing)
    if severity not in range(1, 6):
        raise ValueError(f"`severity` must be 1 to 5. Received: severity={severity}")
    image_size, fractions = layout.checked(
        image_size, channels, validation_split, test_split
    )
    checks.count("batch_size", batch_size)
    directory = Path(directory).resolve()
    if not directory.is_dir():
        raise ValueError(f"`directory` must be a folder. Received: {directory}")
    if beam_options is not None:
        _check_beam()

    matches = single(directory)
    if len(matches) < 3:
        raise ValueError(
            "There must be at least three images, one for each split. Received: "
            f"{len(matches)} in {directory}: {few([m.path for m in matches])}"
        )
    matches, given = layout.given_splits(matches)
    splits = layout.split(matches, given, fractions, seed)
    if len(splits["training"]) < batch_size:
        raise ValueError(
            "There must be images to train on, at least `batch_size`. Received: "
            f"batch_size={batch_size}, images={len(splits['training'])} of "
            f"{len(matches)} in {directory}"
        )
    size = layout.common_size(matches, image_size)
    if min(size) < 16:
        raise ValueError(
            "Images must have sides of at least 16 pixels to be corrupted; pass a "
            f"larger `image_size`. Received: (height, width)={size}"
        )
    classes = layout.class_names(matches)
    files = {
        name: [
            (match.path, classes.index(layout.first_folder(match)) if classes else 0)
            for match in splits[split]
        ]
        for name, split in _SPLITS.items()
    }
    shape = (*size, channels)
    builders = _builders(directory, files, classes, shape, severity, data_dir)
    return corrupted_data(
        f"images of {directory.name}, corrupted",
        builders,
        pairing,
        batch_size,
        augment,
        seed,
        beam_options=beam_options,
    )


def _builders(
    directory: Path,
    files: "dict[str, Files]",
    classes: tuple[str, ...],
    shape: tuple[int, int, int],
    severity: int,
    data_dir: str | Path | None,
) -> "dict[str, LpsCorruptedFolder]":
    """The TFDS builders of the paper's corruptions and of the unseen ones."""
    from lps_tf.datasets.builders.folder import FolderSet, LpsCorruptedFolder

    what = {
        "paper": ("the paper's twelve corruptions", PAPER, tuple(_SPLITS)),
        "unseen": ("unseen corruptions", OUT_OF_DISTRIBUTION, ("test",)),
    }
    name = _identity(directory, files, classes, shape, severity)
    builders = {}
    for which, (description, corruptions, splits) in what.items():
        config = FolderSet(
            name=f"{which}_{name}",
            description=f"{description} at severity {severity}",
            corruptions=corruptions,
            severity=severity,
            splits=splits,
            files=files,
            classes=classes or ("all",),
            shape=shape,
        )
        # A config of its own is nothing to warn about.
        with quiet("absl", logging.ERROR):
            builders[which] = LpsCorruptedFolder(config=config, data_dir=data_dir)
    return builders


def _identity(directory: Path, files: "dict[str, Files]", *settings: object) -> str:
    """A name that another folder, or the same with other files, does not have."""

    def stamp(path: str, label: int) -> tuple:
        status = os.stat(path)
        inside = Path(path).relative_to(directory).as_posix()
        return inside, label, status.st_size, status.st_mtime_ns

    listed = {name: [stamp(*file) for file in part] for name, part in files.items()}
    said = json.dumps([listed, *settings])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _check_beam() -> None:
    try:
        import apache_beam  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "`beam_options` needs Apache Beam, which is not installed: "
            "pip install apache-beam. Without the argument, this process does the work."
        ) from error

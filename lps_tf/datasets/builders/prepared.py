"""Image data sets that TensorFlow Datasets has prepared on this machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def missing(name: str, where: str, how: str, stand_in: str) -> FileNotFoundError:
    """Makes the one error for every data set that is not on this machine.

    Nothing downloads silently.

    Args:
        name: Name of the data set.
        where: Where it was looked for.
        how: How to get it: a command, or what to do.
        stand_in: Functions of `lps_tf.datasets` that need no download.
    """
    return FileNotFoundError(
        f"{name} is not on this machine; looked for it in {where}. To get it: {how}. "
        f"Without a download, use the offline stand-in: {stand_in} of lps_tf.datasets."
    )


def is_there(name: str, data_dir: str | Path | None) -> bool:
    """Whether TFDS has prepared a data set."""
    import tensorflow_datasets as tfds

    return tfds.builder(name, data_dir=data_dir).data_path.exists()


def builder(
    name: str,
    data_dir: str | Path | None,
    stand_in: str,
    download: bool = False,
    others: Sequence[Path] = (),
) -> Any:
    """The TFDS builder of a data set that is there.

    Args:
        name: Name of the data set, with its config if it has one.
        data_dir: Where TFDS keeps its data sets, default its own folder.
        stand_in: Functions of `lps_tf.datasets` that need no download.
        download: Whether to download and prepare it if it is not there.
        others: Where it has been looked for as well.

    Raises:
        FileNotFoundError: If it is not there: nothing downloads silently.
    """
    import tensorflow_datasets as tfds

    found = tfds.builder(name, data_dir=data_dir)
    if not found.data_path.exists():
        if not download:
            raise missing(
                name,
                where=", ".join(map(str, (found.data_path, *others))),
                how=f"pass download=True, or call `tfds build {name}`",
                stand_in=stand_in,
            )
        found.download_and_prepare()
    return found


def held_out(builder: Any, share: int) -> tuple[Any, Any, Any]:
    """Splits (train, validation, test): the last of `share` parts of train validates.

    60 leaves 59,000 and 1,000 of MNIST, 50 leaves 49,000 and 1,000 of CIFAR-10.
    """
    import tensorflow_datasets as tfds

    count = builder.info.splits["train"].num_examples
    kept = count - round(count / share)
    return (
        tfds.core.ReadInstruction("train", to=kept, unit="abs"),
        tfds.core.ReadInstruction("train", from_=kept, unit="abs"),
        "test",
    )


def arrays(builder: Any, split: Any) -> tuple[np.ndarray, np.ndarray]:
    """All images (n, h, w, c) uint8 of a split, and their labels (n,)."""
    data = builder.as_dataset(split=split, as_supervised=True).batch(1024)
    images, labels = zip(*data.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)

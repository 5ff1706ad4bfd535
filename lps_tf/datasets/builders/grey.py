"""All of MNIST and Fashion-MNIST, wherever they are on this machine."""

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lps_tf.datasets.builders import idx, prepared
from lps_tf.datasets.builders.idx import Arrays

_VALIDATION = 60  # the paper's share of the training images: 1,000 of 60,000


def _keras(name: str) -> Path:
    home = os.environ.get("KERAS_HOME", Path.home() / ".keras")
    return Path(home) / "datasets" / name


# Where they may be besides TFDS, by the name that TFDS has for them.
_PLACES: dict[str, tuple[Callable[[], Path], ...]] = {
    "mnist": (lambda: _keras("mnist.npz"),),
    "fashion_mnist": (
        lambda: _keras("fashion-mnist"),
        lambda: Path("/usr/share/datasets/fashion-mnist"),  # Debian's package
    ),
}


@functools.lru_cache(maxsize=2)
def splits(
    name: str, data_dir: str | Path | None, stand_in: str, download: bool
) -> tuple[Arrays, Arrays, Arrays]:
    """Training, validation and test images, the same ones wherever they are read.

    They are looked for in `data_dir`, of TFDS or as idx files, then in the cache of
    `keras.datasets`, and then where Debian keeps them.

    Args:
        name: Name that TFDS has for the data set: "mnist" or "fashion_mnist".
        data_dir: Folder of TFDS or of idx files, default TFDS's own.
        stand_in: Functions of `lps_tf.datasets` that need no download.
        download: Whether to download the data set through TFDS if it is not there.

    Raises:
        FileNotFoundError: If it is not there: nothing downloads silently.
        ValueError: If its files are broken.
    """
    others = [place() for place in _PLACES[name]]
    if data_dir is not None:
        others.insert(0, Path(data_dir).expanduser())
    found = next((place for place in others if idx.holds(place)), None)
    if found is not None and not prepared.is_there(name, data_dir):
        train, test = (idx.read(found, split) for split in ("train", "test"))
    else:
        builder = prepared.builder(name, data_dir, stand_in, download, others)
        train, test = (prepared.arrays(builder, split) for split in ("train", "test"))
    # Their order differs from place to place: which ones validate must not.
    (x, y), test = _ordered(train), _ordered(test)
    kept = len(x) - round(len(x) / _VALIDATION)
    return (x[:kept], y[:kept]), (x[kept:], y[kept:]), test


def _ordered(arrays: Arrays) -> Arrays:
    """Puts images in the order of their digests, which is as good as any at random."""
    images, labels = arrays
    order = np.argsort(
        [
            hashlib.blake2b(image.tobytes() + bytes([label]), digest_size=8).hexdigest()
            for image, label in zip(images, labels.astype(np.uint8), strict=True)
        ],
        kind="stable",
    )
    return images[order], labels[order]

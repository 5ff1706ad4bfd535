"""Files of MNIST and Fashion-MNIST as they are published: idx, or npz of Keras."""

import gzip
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

#: Images (n, h, w, 1) uint8 and their labels (n,).
Arrays = tuple[np.ndarray, np.ndarray]
_IDX = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def holds(path: Path) -> bool:
    """Whether a path is an npz file of Keras, or a folder of all four idx files."""
    if path.suffix == ".npz":
        return path.is_file()
    names = (name for pair in _IDX.values() for name in pair)
    return all(any(f.is_file() for f in _candidates(path, name)) for name in names)


def read(path: Path, split: str) -> Arrays:
    """Reads "train" or "test".

    Raises:
        ValueError: If a file is cut short, holds something else, or has as many images
            as labels it has not.
    """
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
    else:
        images, labels = (_idx(path, name) for name in _IDX[split])
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{path} must hold images (n, height, width) and labels (n,). "
            f"Received: images {images.shape}, labels {labels.shape} in {split!r}"
        )
    return images[..., None], labels


def _candidates(folder: Path, name: str) -> Iterator[Path]:
    yield folder / name
    yield folder / f"{name}.gz"


def _idx(folder: Path, name: str) -> np.ndarray:
    """Two zero bytes, 8 for uint8, the number of axes, their sizes, the values."""
    path = next(f for f in _candidates(folder, name) if f.is_file())
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (EOFError, OSError) as error:  # gzip's, of a download that was cut off
        raise ValueError(f"{path} cannot be read: {error}") from error
    header = 4 + 4 * data[3] if data[:3] == b"\0\0\x08" else 0
    shape = tuple(np.frombuffer(data[4:header], ">u4", count=max(0, header - 4) // 4))
    if not shape or len(data) - header != math.prod(map(int, shape)):
        raise ValueError(
            f"{path} must be an idx file of bytes. Received: {len(data)} bytes that "
            f"start with {data[:4].hex(' ')}; is the file cut off? Get it again."
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)

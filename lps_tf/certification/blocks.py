"""A folder of certificates: one file a block of images, and the settings of all."""

import math
import time
from pathlib import Path

import numpy as np

from lps_tf._internal import files
from lps_tf._internal.store import Store

# Seconds that a block is held for the process that has taken it.
_HELD = 3600


class Blocks:
    """The blocks in a folder. Block k has images k * size to (k + 1) * size - 1.

    A block is a .npz file of `ARRAYS`. `shards.json` says into how many shards the
    work was divided, if it was.

    Args:
        directory: Folder, which need not be there yet.
        settings: What the certificates depend on; None takes those of the folder.

    Raises:
        ValueError: If the folder holds certificates of other settings, or none while
            `settings` is None.
    """

    #: In a block's file: indices of the images, labels, and what `certify` returns.
    ARRAYS = ("index", "labels", "prediction", "radius", "p_lower", "samples")
    #: In some: what true perturbations of the images are measured by.
    MEASURED = ("norms", "perturbed_correct")

    def __init__(self, directory: str | Path, settings: dict | None = None):
        self._store, self._directory = Store(directory, settings), Path(directory)
        self.settings = self._store.settings
        self.require = self._store.require

    @property
    def shards(self) -> int | None:
        """Into how many shards the work was divided, None if it was not."""
        return self._store.read_json("shards.json")

    def claim(self, shards: int | None = None) -> None:
        """Makes the folder have these settings, and as many shards if any."""
        self._store.claim()
        if shards is not None and self.shards is None:
            self._store.write_json("shards.json", shards)

    @property
    def count(self) -> int:
        """Into how many blocks the images are divided."""
        return math.ceil(self.settings["images"] / self.settings["images_per_file"])

    def index(self, k: int) -> np.ndarray:
        """Indices of the images of block k, int64."""
        size = self.settings["images_per_file"]
        return np.arange(k * size, min((k + 1) * size, self.settings["images"]))

    def path(self, k: int) -> Path:
        """The file of block k."""
        return self._directory / _name(k)

    def take(self, k: int) -> bool:
        """Whether block k is this process's to make: nobody has it, or is about to.

        Processes that share the folder see in a hidden file what another one has taken.
        That holds for an hour: a block that was taken longer ago and is not there is
        taken again, because its process may have been killed. If it was not, both
        write the same.
        """
        if self.read(k) is not None:
            return False
        taken = self._taken(k)
        if taken.exists() and time.time() - taken.stat().st_mtime > _HELD:
            taken.unlink(missing_ok=True)
        return files.newly(taken)

    def release(self, k: int) -> None:
        """Takes `take` back, once the block is there or has failed."""
        self._taken(k).unlink(missing_ok=True)

    def _taken(self, k: int) -> Path:
        return self._directory / f".{_name(k)}.taken"

    def write(self, k: int, arrays: dict[str, np.ndarray]) -> None:
        """Writes block k, as a whole or not at all."""
        self._store.write_arrays(_name(k), arrays)

    def read(self, k: int) -> dict[str, np.ndarray] | None:
        """Block k, None if it is not there or damaged."""
        block = self._store.read_arrays(_name(k))
        if block is None or not set(self.ARRAYS) <= set(block):
            return None
        return block if np.array_equal(block["index"], self.index(k)) else None


def _name(k: int) -> str:
    return f"block_{k:06d}.npz"

"""A folder of certificates: one file a block of images, and the settings of all."""

import json
import math
import zipfile
import zlib
from pathlib import Path

import numpy as np

from lps_tf._internal import files

_UNREADABLE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


class Blocks:
    """The blocks in a folder. Block k has images k * size to (k + 1) * size - 1.

    A block is a .npz file of `ARRAYS`, there as a whole or not at all. `settings.json`
    says what the certificates depend on; `shards.json` into how many shares the work
    was divided, if it was.

    Args:
        directory: the folder, which need not be there yet.
    """

    #: In a block's file: numbers of the images, labels, and what `certify` returns.
    ARRAYS = ("index", "labels", "prediction", "radius", "p_lower", "samples")

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)

    @property
    def settings(self) -> dict:
        """What the certificates depend on.

        Raises:
            ValueError: if the folder holds no certificates.
        """
        path = self.directory / "settings.json"
        if not path.exists():
            raise ValueError(
                f"{self.directory} holds no certificates: it has no {path.name}. "
                "Name a folder that `certify_dataset` has written."
            )
        return json.loads(path.read_text())

    @property
    def shards(self) -> int | None:
        """Into how many shares the work was divided, None if it was not."""
        path = self.directory / "shards.json"
        return json.loads(path.read_text()) if path.exists() else None

    def require(self, settings: dict) -> None:
        """Raises ValueError, saying what differs, unless these are the settings."""
        there = self.settings
        differences = [
            f"{name} is {there.get(name)} there, {settings.get(name)} here"
            for name in sorted({*there, *settings})
            if there.get(name) != settings.get(name)
        ]
        if differences:
            raise ValueError(
                f"{self.directory} holds certificates of other settings: "
                f"{'; '.join(differences)}. Choose another folder, or go back to "
                "those settings."
            )

    def check(self, settings: dict) -> None:
        """Raises ValueError unless blocks of these settings may be written here."""
        if (self.directory / "settings.json").exists():
            self.require(settings)
        elif any(self.directory.glob("block_*.npz")):
            raise ValueError(
                f"{self.directory} holds blocks but no settings.json: what they belong "
                "to is not known. Choose another folder."
            )

    def claim(self, settings: dict, shards: int | None = None) -> None:
        """Checks that the folder may have these settings, and makes it have them."""
        self.check(settings)
        for name, content in (("settings", settings), ("shards", shards)):
            path = self.directory / f"{name}.json"
            if content is not None and not path.exists():
                files.write_json(path, content)

    def path(self, k: int) -> Path:
        """The file of block k."""
        return self.directory / f"block_{k:06d}.npz"

    def write(self, k: int, arrays: dict[str, np.ndarray]) -> None:
        """Writes block k, as a whole or not at all."""
        files.atomically(
            self.path(k), lambda temporary: np.savez_compressed(temporary, **arrays)
        )

    def read(self, k: int) -> dict[str, np.ndarray] | None:
        """Block k, None if it is not there or damaged."""
        try:
            with np.load(self.path(k)) as file:
                block = {name: file[name] for name in self.ARRAYS}
        except _UNREADABLE:
            return None
        whole = np.array_equal(block["index"], block_index(self.settings, k))
        return block if whole else None


def block_count(settings: dict) -> int:
    """Into how many blocks the images are divided."""
    return math.ceil(settings["images"] / settings["images_per_file"])


def block_index(settings: dict, k: int) -> np.ndarray:
    """Numbers of the images of block k, int64."""
    size = settings["images_per_file"]
    return np.arange(k * size, min((k + 1) * size, settings["images"]))

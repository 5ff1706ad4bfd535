"""A folder of results that is taken up where work stopped, and never mixed."""

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lps_tf._internal import files

# What reading a file raises that was cut short, by a full disk or a power failure.
_DAMAGED = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)
_SETTINGS, _FINGERPRINT = "settings.json", "fingerprint"


class Store:
    """Results in files of their own, beside `settings.json`: what they depend on.

    A file is there as a whole or not at all; a damaged one counts as missing, so that
    it is made again. Nothing is written before the first result, or `claim`.

    Args:
        directory: Folder, which need not be there yet; None keeps nothing.
        settings: What the results depend on, as JSON; None takes those of the folder.
        remedy: What to do in the place of choosing another folder.

    Raises:
        ValueError: If the folder holds results of other settings (the message says
            what differs), or files but no settings.
    """

    def __init__(
        self,
        directory: str | Path | None,
        settings: Mapping[str, Any] | None = None,
        remedy: str = "Choose another folder, or go back to those settings.",
    ):
        self.directory = None if directory is None else Path(directory)
        self._remedy = remedy
        self._made: list[Path] = []  # the folders that `claim` made, innermost first
        if settings is None:
            self.settings = self._written()
        else:
            self.settings = json.loads(json.dumps(settings))
            self._check()

    def path(self, name: str) -> Path | None:
        """The file of a result; None if nothing is kept."""
        return None if self.directory is None else self.directory / name

    def require(self, settings: Mapping[str, Any]) -> None:
        """Raises ValueError, saying what differs, unless these are the settings."""
        there, here = dict(_flat(self.settings)), dict(_flat(settings))
        differences = [
            f"{name} is {_short(there.get(name))} there, {_short(here.get(name))} here"
            for name in sorted({*there, *here})
            if there.get(name) != here.get(name)
        ]
        if differences:
            raise ValueError(
                f"{self.directory} holds results of other settings: "
                f"{'; '.join(differences)}. {self._remedy}"
            )

    def claim(self) -> None:
        """Makes the folder have these settings, before its first result."""
        self._check()
        path = self.path(_SETTINGS)
        if self.directory is not None and path is not None and not path.exists():
            folders = (self.directory, *self.directory.parents)
            self._made = [folder for folder in folders if not folder.exists()]
            files.write_json(path, self.settings)

    def release(self) -> None:
        """Takes back `claim` if there is no result: removes what it has made."""
        if self.directory is None or not self.directory.is_dir():
            return
        if [path.name for path in self.directory.iterdir()] != [_SETTINGS]:
            return
        (self.directory / _SETTINGS).unlink()
        for folder in self._made:
            if any(folder.iterdir()):
                return
            folder.rmdir()

    def read_json(self, name: str) -> Any:
        """A result of JSON; None if it is not there, or damaged."""
        path = self.path(name)
        try:
            return None if path is None else json.loads(path.read_text())
        except _DAMAGED:
            return None

    def write_json(self, name: str, content: Any) -> None:
        """Writes a result of JSON; nothing is kept of what is no JSON."""
        if self.directory is not None:
            content = json.dumps(content, indent=1) + "\n"
            self.claim()
            files.write_text(self.directory / name, content)

    def read_arrays(
        self, name: str, inputs: np.ndarray | None = None
    ) -> dict[str, np.ndarray] | None:
        """A result of arrays by name; None if it is not there, or damaged.

        Args:
            name: Name of its file, with the ending `.npz`.
            inputs: `fingerprint` of what it was made of, as `write_arrays` was given.

        Raises:
            ValueError: If it was made of other inputs.
        """
        path = self.path(name)
        try:
            if path is None:
                return None
            # Opened here, because NumPy leaves a damaged file open.
            with path.open("rb") as file, np.load(file) as content:
                arrays = {key: content[key] for key in content.files}
            if inputs is not None:
                before = arrays.pop(_FINGERPRINT)
        except _DAMAGED:
            return None
        # Not exactly: machines differ in the last digits of what they compute.
        if inputs is not None and (
            before.shape != inputs.shape or not np.allclose(before, inputs, atol=1e-4)
        ):
            raise ValueError(
                f"{path} holds results of other images. Give the same data in the same "
                "batches, or choose another folder."
            )
        return arrays

    def write_arrays(
        self,
        name: str,
        arrays: Mapping[str, np.ndarray],
        inputs: np.ndarray | None = None,
    ) -> None:
        """Writes a result of arrays by name; see `read_arrays`."""
        if self.directory is None:
            return
        content: dict[str, Any] = dict(arrays)
        if inputs is not None:
            content[_FINGERPRINT] = inputs
        self.claim()
        files.atomically(
            self.directory / name,
            lambda temporary: np.savez_compressed(temporary, **content),
        )

    def _written(self) -> dict:
        path = self.path(_SETTINGS)
        if path is None or not path.exists():
            raise ValueError(
                f"{self.directory} holds no results: it has no {_SETTINGS}. Name a "
                "folder that results were written to."
            )
        return json.loads(path.read_text())

    def _check(self) -> None:
        if self.directory is None or not self.directory.is_dir():
            return
        if (self.directory / _SETTINGS).exists():
            Store(self.directory, None, self._remedy).require(self.settings)
        # Hidden files are those that another process is about to write.
        elif any(not path.name.startswith(".") for path in self.directory.iterdir()):
            raise ValueError(
                f"{self.directory} holds files but no settings.json: what they belong "
                f"to is not known. {self._remedy}"
            )


def fingerprint(*arrays: Any) -> np.ndarray:
    """What tells a batch from others: the mean of each example of each array.

    Args:
        *arrays: Images, labels or indices, each (batch, ...).

    Returns:
        Means, (arrays, batch).
    """
    return np.stack([np.reshape(a, (len(a), -1)).mean(1) for a in arrays])


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings with dotted names, so that only what differs has to be shown."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

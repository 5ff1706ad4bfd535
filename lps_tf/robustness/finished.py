"""A folder with the scores of finished batches, to go on where work stopped."""

import itertools
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from lps_tf._internal import files
from lps_tf.robustness.scores import Scores

#: The numbers of some images in their data set, the images and their labels.
Batch = tuple[np.ndarray, tf.Tensor, tf.Tensor]

# What reading a file raises that was cut short, by a full disk or a power failure.
_DAMAGED = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


class Finished:
    """Scores of batches, one file for each; without a folder, nothing is kept.

    Args:
        directory: the folder, or None.
        settings: what the scores depend on, as JSON.

    Raises:
        ValueError: if the folder holds scores of other settings.
    """

    def __init__(self, directory: str | Path | None, settings: dict):
        self.directory = None if directory is None else Path(directory)
        if self.directory is None:
            return
        path = self.directory / "settings.json"
        settings = json.loads(json.dumps(settings))
        there = json.loads(path.read_text()) if path.exists() else settings
        names = sorted({*there, *settings})
        other = [name for name in names if there.get(name) != settings.get(name)]
        if other:
            raise ValueError(
                f"`directory` holds results of another {', '.join(other)}. Choose "
                f"another folder, or delete this one. Received: {directory}"
            )
        files.write_json(path, settings)

    def complete(
        self, part: str, batches: Iterator[Batch], work: Callable
    ) -> list[Scores]:
        """The scores of all batches, those that are not there made by `work`.

        Args:
            part: of the evaluation, which begins the names of its files.
            batches: to score.
            work: takes an iterator of batches and yields their `Scores`, in order.

        Returns:
            The scores of each batch. Their confusions are summed over the batch, and
            have 1 in its place: those of single images would fill the disk.
        """
        scores = {}

        def unfinished() -> Iterator[tuple[int, Batch]]:
            for number, batch in enumerate(batches):
                scores[number] = self._read(part, number, batch)
                if scores[number] is None:
                    yield number, batch

        todo, same = itertools.tee(unfinished())
        results = work(batch for _, batch in todo)
        # Attacks read ahead, so that results come some batches later.
        for result, (number, batch) in zip(results, same, strict=False):
            confusion = result.confusion.sum(1, keepdims=True)
            scores[number] = result._replace(confusion=confusion)
            self._write(part, number, batch, scores[number])
        return list(scores.values())

    def _path(self, part: str, number: int) -> Path:
        return self.directory / f"{part}-{number:05d}.npz"

    def _read(self, part: str, number: int, batch: Batch) -> Scores | None:
        if self.directory is None or not self._path(part, number).exists():
            return None
        try:
            with np.load(self._path(part, number)) as content:
                mark, *values = (content[name] for name in ("mark", *Scores._fields))
        except _DAMAGED:
            return None
        now = _mark(batch)
        if mark.shape != now.shape or not np.allclose(mark, now, atol=1e-4):
            raise ValueError(
                f"{self._path(part, number)} holds results of other images. Evaluate "
                "the same data in the same batches, or choose another folder."
            )
        return Scores(*values)

    def _write(self, part: str, number: int, batch: Batch, scores: Scores) -> None:
        if self.directory is not None:
            content = {**scores._asdict(), "mark": _mark(batch)}
            path = self._path(part, number)
            files.atomically(path, lambda temporary: np.savez(temporary, **content))


def _mark(batch: Batch) -> np.ndarray:
    """What tells a batch from others: number, mean colour and label of each image."""
    return np.stack([np.reshape(v, (len(v), -1)).mean(1) for v in batch])

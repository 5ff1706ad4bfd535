"""Scores of finished batches in a folder, to go on where work stopped."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from lps_tf._internal.store import Store, fingerprint
from lps_tf.robustness.scores import Scores

#: The indices of some images in their data set, the images and their labels.
Batch = tuple[np.ndarray, Any, Any]


class ScoreCache:
    """Scores of batches, one file for each.

    Args:
        store: Folder that they are kept in, and what they depend on.
    """

    def __init__(self, store: Store):
        self._store = store

    def complete(
        self,
        part: str,
        batches: Iterable[Batch],
        work: Callable[[Iterator[Batch]], Iterable[Scores]],
    ) -> list[Scores]:
        """The scores of all batches, those that are not there made by `work`.

        Args:
            part: Part of the evaluation, which begins the names of its files.
            batches: Batches to score.
            work: Takes an iterator of batches and yields their `Scores`, in order.

        Returns:
            The scores of each batch. Their confusions and calibrations are summed over
            the batch, and have 1 in its place: those of single images would fill the
            disk.
        """
        scores: dict[int, Scores | None] = {}

        def unfinished() -> Iterator[tuple[int, Batch]]:
            for number, batch in enumerate(batches):
                scores[number] = self._read(part, number, batch)
                if scores[number] is None:
                    yield number, batch

        todo, same = itertools.tee(unfinished())
        results = work(batch for _, batch in todo)
        # Attacks read ahead, so that results come some batches later.
        for result, (number, batch) in zip(results, same, strict=False):
            scores[number] = found = result._replace(
                confusion=result.confusion.sum(1, keepdims=True),
                calibration=result.calibration.sum(1, keepdims=True),
            )
            if self._store.directory is not None:
                name = _file(part, number)
                self._store.write_arrays(name, found._asdict(), fingerprint(*batch))
        return [found for found in scores.values() if found is not None]

    def _read(self, part: str, number: int, batch: Batch) -> Scores | None:
        if self._store.directory is None:
            return None
        arrays = self._store.read_arrays(_file(part, number), fingerprint(*batch))
        if arrays is None or set(arrays) != set(Scores._fields):
            return None
        return Scores(**arrays)


def _file(part: str, number: int) -> str:
    return f"{part}-{number:05d}.npz"

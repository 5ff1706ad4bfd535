"""What work that takes a while says meanwhile, and what libraries need not say."""

import contextlib
import logging
from collections.abc import Iterable, Iterator
from typing import TypeVar

import keras
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

Item = TypeVar("Item")


def progress(
    items: Iterable[Item], what: str, show: bool = True, total: int | None = None
) -> Iterator[Item]:
    """Yields the items, with a bar that tells the time left.

    Args:
        items: Items to yield.
        what: Name of the work, before the bar.
        show: Whether to show the bar.
        total: How many items there are; None asks the items, which may not know it.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not show) as bar:
        yield from bar.track(items, total, description=what)


@contextlib.contextmanager
def quiet(library: str, level: int) -> Iterator[None]:
    """Hides what a library logs below a level, from `logging`."""
    logger = logging.getLogger(library)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


class EpochBar(keras.callbacks.Callback):
    """One line of progress for all epochs of a `fit`, instead of one each.

    Args:
        epochs: Number of epochs.
    """

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = epochs

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Shows the bar."""
        self.bar = Progress()
        self.bar.start()
        self.task = self.bar.add_task("training", total=self.epochs)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Moves it on."""
        loss = (logs or {}).get("loss", float("nan"))
        self.bar.update(self.task, completed=epoch + 1, description=f"loss {loss:.4g}")

    def on_train_end(self, logs: dict | None = None) -> None:
        """Takes it away."""
        self.bar.stop()

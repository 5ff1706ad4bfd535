"""Folders of results that are computed in stages and resumed after the last one."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from lps_tf._internal.store import Store


class Stages:
    """Stages with results in JSON, kept in a folder; finished ones are not repeated.

    Args:
        directory: Folder of the results.
        settings: Settings that the results depend on, of types that JSON has.
        fresh: Whether to discard the results that are there.
        verbose: Whether to print the stages and their seconds.
        follows: Whether another machine writes the folder, and this one only helps
            with the work.

    Raises:
        ValueError: If the folder holds results of other settings, or files that are
            not from such stages.
    """

    def __init__(
        self,
        directory: str | Path,
        settings: dict,
        fresh: bool = False,
        verbose: bool = True,
        follows: bool = False,
    ):
        self.directory, self.follows = Path(directory), follows
        self.verbose = verbose and not follows
        self.console = Console(highlight=False, quiet=not self.verbose)
        self._store = Store(None, {})
        if follows:
            return
        if fresh and (self.directory / "settings.json").exists():
            shutil.rmtree(self.directory)
        remedy = "Choose another folder with --output, or replace this with --fresh."
        self._store = Store(directory, settings, remedy)
        self._store.claim()

    def __truediv__(self, name: str) -> Path:
        return self.directory / name

    def stage(self, name: str, work: Callable[[], Any]) -> Any:
        """Returns the result of `work()`, or of an earlier call from the folder."""
        path = f"stages/{name}.json"
        if self.follows and (self.directory / "settings.json").exists():
            self._store = Store(self.directory)  # the chief has claimed it by now
        done = self._store.read_json(path)
        if done is not None:
            self.console.print(f"[dim]{name}: done before[/dim]")
            return done["result"]
        self.console.print(f"[bold]{name}[/bold]")
        start = time.perf_counter()
        result = work()
        if self.follows:
            return result
        seconds = time.perf_counter() - start
        self._store.write_json(path, {"seconds": seconds, "result": result})
        self.console.print(f"  {seconds:.0f} s")
        # Read back, so that a tuple is a list whether or not the run was resumed.
        return self._store.read_json(path)["result"]

    def release(self) -> None:
        """Removes the folder again if no stage has written anything to it."""
        self._store.release()

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds that each finished stage took."""
        return {
            path.stem: json.loads(path.read_text())["seconds"]
            for path in sorted((self.directory / "stages").glob("*.json"))
        }

"""Measures lps_tf against its peers, each in a process of its own and in turns.

A benchmark module bench_NAME.py lists its benchmarks in `BENCHMARKS`. Listing them
must stay cheap, so modules import TensorFlow, PyTorch and the like in the functions
that build the sides, not at the top.
"""

import concurrent.futures
import contextlib
import dataclasses
import datetime
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from tests.benchmarks import machine

#: One unit of work, finished when it returns.
Work = Callable[[], Any]
#: Makes a side's work, in that side's process: a function of a module, or a partial of
#: one, because it goes there by its name.
Build = Callable[[], Work]

Found = TypeVar("Found")

OURS = "lps_tf"
#: Threads of the side before spin for a while; this long nothing is measured.
PAUSE = 0.3


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A comparison.

    Args:
        name: for the command line and the results.
        goal: how many times as fast as the fastest peer we want to be.
        unit: of the speed, such as "steps/s"; a call of a side is one of them.
        ours: makes the work as lps_tf does it.
        peers: makes the same work as others do it, by name. One that raises is
            reported with its reason, and the rest is measured.
    """

    name: str
    goal: float
    unit: str
    ours: Build
    peers: dict[str, Build]


def measure(
    benchmark: Benchmark,
    seconds: float = 2.0,
    rounds: int = 5,
    tell: Callable[[str], None] = lambda text: None,
) -> dict:
    """Measures the sides in turns, so that the machine's noise reaches all of them.

    Each side has a process, which waits while another one computes, and may use all
    cores. It first runs a little uncounted, which is when it compiles.

    Args:
        benchmark: what to measure.
        seconds: length of a side's turn, at least one call.
        rounds: turns of each side. Three will do once they have taken two minutes.
        tell: called with what happens next.

    Returns:
        Under `speeds` the speed of each side in each round; under `failed` why a peer
        has none; `unit`, `goal`, `date`, the `load` before, and the `gflops` of matrix
        products. `ratios` has the rest of them.

    Raises:
        Exception: whatever lps_tf or the only peer raises.
    """
    state = {"date": f"{datetime.date.today()}", "load": round(os.getloadavg()[0], 2)}
    state["gflops"] = round(elsewhere(machine.matrix_rate), 1)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        sides, calls, failed = {}, {}, {}
        for name, build in {OURS: benchmark.ours, **benchmark.peers}.items():
            tell(f"starting {name}")
            process = stack.enter_context(_process())
            try:
                calls[name] = process.submit(_prepare, build, seconds, folder).result()
                sides[name] = process
            except Exception as error:  # a missing compiler, an unsupported operation
                _end(process)
                if name == OURS or len(benchmark.peers) == 1:
                    raise
                failed[name] = reason(error)

        speeds: dict[str, list[float]] = {name: [] for name in sides}
        start = time.monotonic()
        for turn in range(rounds):
            if turn >= 3 and time.monotonic() - start > 120:
                break
            for name, process in sides.items():
                tell(f"round {turn + 1} of {rounds}, {name}")
                time.sleep(PAUSE)
                speeds[name].append(process.submit(_turn, calls[name]).result())
    return {
        "unit": benchmark.unit,
        "goal": benchmark.goal,
        **state,
        "speeds": speeds,
        "failed": failed,
    }


def ratios(row: dict) -> dict[str, list[float]]:
    """How many times as fast as each peer lps_tf was, in each round, of `measure`'s."""
    ours = row["speeds"][OURS]
    return {
        name: [a / b for a, b in zip(ours, theirs, strict=True)]
        for name, theirs in row["speeds"].items()
        if name != OURS
    }


def fastest(row: dict) -> str:
    """The peer that is the fastest in the median, in the same."""
    speeds = {name: statistics.median(v) for name, v in row["speeds"].items()}
    del speeds[OURS]
    return max(speeds, key=lambda name: speeds[name])


def elsewhere(function: Callable[..., Found], *arguments: Any) -> Found:
    """Calls a function in a process that ends, so that what it loads is gone then."""
    with _process() as process:
        return process.submit(function, *arguments).result()


@contextlib.contextmanager
def _process() -> Iterator[concurrent.futures.ProcessPoolExecutor]:
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn) as process:
        try:
            yield process
        finally:
            _end(process)


def _end(process: concurrent.futures.ProcessPoolExecutor) -> None:
    # Left to itself, TensorFlow may wait for its own threads forever.
    with contextlib.suppress(concurrent.futures.BrokenExecutor):
        process.submit(os._exit, 0)


# What the process of a side has, and what it is told to do.

_work: Work


def _prepare(build: Build, seconds: float, folder: str) -> int:
    """Makes the work, its files in a folder; returns how many calls fill the time."""
    global _work
    tempfile.tempdir = folder
    _work = build()
    tempfile.tempdir = None
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(machine.cores())  # as TensorFlow does by default
    return _calls(_work, seconds)


def _turn(calls: int) -> float:
    """The speed of so many calls."""
    return calls / _duration(_work, calls)


def _calls(work: Work, seconds: float) -> int:
    if _duration(work, 1) > 10 * seconds:
        return 1  # whatever of it was compiling
    calls = 1
    # One call does not tell how long many take: a pipeline has a few batches ready.
    while (spent := _duration(work, calls)) < seconds / 2:
        calls *= 2
    return max(1, round(calls * seconds / spent))


def _duration(work: Work, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        work()
    return time.perf_counter() - start


def reason(error: BaseException) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def pick(known: Sequence[Benchmark], parts: Sequence[str]) -> list[Benchmark]:
    """The benchmarks that have one of the parts in their names; all without parts.

    Raises:
        ValueError: if a part is in no name.
    """
    for part in parts:
        if not any(part in benchmark.name for benchmark in known):
            raise ValueError(f"no benchmark has {part!r} in its name; see --list")
    return [b for b in known if not parts or any(part in b.name for part in parts)]

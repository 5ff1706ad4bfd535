"""Measures lps_tf against a peer, both in one process and in turns.

A benchmark module bench_NAME.py lists its benchmarks in `BENCHMARKS`. Listing them
must stay cheap, so modules import TensorFlow, PyTorch and the like in the functions
that build the sides, not at the top.
"""

import contextlib
import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

#: One unit of work, finished when it returns.
Work = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Sides:
    """What is compared, ready to run.

    Args:
        ours: a unit of work by lps_tf; it returns only when the result is there.
        peer: the same work by what lps_tf is compared with.
        extra: other ways to do it, by name. One that raises is reported with its
            reason, and the rest is measured.
    """

    ours: Work
    peer: Work
    extra: dict[str, Work] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A comparison that can be built.

    Args:
        name: for the command line and the results.
        goal: how many times as fast as the peer we want to be.
        unit: of the speed, such as "steps/s"; a call of a side is one of them.
        build: makes the sides; a function of a module, or a partial of one, because
            it goes to another process by its name.
        needs_torch: whether the peer is PyTorch.
    """

    name: str
    goal: float
    unit: str
    build: Callable[[], Sides]
    needs_torch: bool = False


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def measure(benchmark: Benchmark, seconds: float = 1.0, rounds: int = 5) -> dict:
    """Runs the sides in turns, so that the machine's noise reaches all of them.

    Each side first runs a little uncounted, which is when it compiles. Every side may
    use all cores.

    Args:
        benchmark: what to build and measure.
        seconds: length of a side's turn, at least one call.
        rounds: turns of each side; the median counts. Three will do once they
            have taken half a minute.

    Returns:
        Speeds `ours` and `peer`, their `ratio`, `goal`, `unit`, `cores`, and under
        `extra` the other sides' speeds, or why there is none.
    """
    if benchmark.needs_torch:
        import torch

        torch.set_num_threads(cores())  # as TensorFlow does by default
    sides = benchmark.build()
    runs = {"ours": sides.ours, "peer": sides.peer}
    calls = {name: _calls(work, seconds) for name, work in runs.items()}
    failed = {}
    for name, work in sides.extra.items():
        try:
            calls[name] = _calls(work, seconds)
            runs[name] = work
        except Exception as error:  # a missing compiler, an unsupported operation
            failed[name] = reason(error)

    speeds: dict[str, list[float]] = {name: [] for name in runs}
    start = time.perf_counter()
    for turn in range(rounds):
        if turn >= 3 and time.perf_counter() - start > 30:
            break
        for name, work in runs.items():
            time.sleep(0.05)  # idle threads of the side before spin for a while
            speeds[name].append(calls[name] / _duration(work, calls[name]))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    ours, peer = medians.pop("ours"), medians.pop("peer")
    return {
        "ours": ours,
        "peer": peer,
        "ratio": ours / peer,
        "goal": benchmark.goal,
        "unit": benchmark.unit,
        "cores": cores(),
        "extra": {**medians, **failed},
    }


def _calls(work: Work, seconds: float) -> int:
    """Warms a side up and returns how many calls fill the time."""
    work()
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


def save(path: str | Path, name: str, result: dict) -> None:
    """Adds a result to those of other benchmarks in a JSON file."""
    from lps_tf._internal import files

    saved = {}
    with contextlib.suppress(FileNotFoundError):
        saved = json.loads(Path(path).read_text())
    files.write_json(path, {**saved, name: result})


def table(results: dict[str, dict]) -> Table:
    """Results as `measure` gives them, by name, to print with rich."""
    shown = Table(caption="ratio: ours / peer, medians of turns in one process")
    shown.add_column("benchmark")
    for column in ("ours", "peer", "unit", "ratio", "goal"):
        shown.add_column(column, justify="left" if column == "unit" else "right")
    for name, r in results.items():
        row = [f"{r[key]:.4g}" for key in ("ours", "peer")]
        met = "green" if r["ratio"] >= r["goal"] else "red"
        ratio = f"[{met}]{r['ratio']:.2f}[/]"
        shown.add_row(name, *row, r["unit"], ratio, f"{r['goal']:.2f}")
        for extra, speed in r["extra"].items():
            if isinstance(speed, str):
                shown.add_row(f"  {extra}: {escape(speed)}")
            else:
                ratio = f"{r['ours'] / speed:.2f}"
                shown.add_row(f"  {extra}", "", f"{speed:.4g}", r["unit"], ratio)
    return shown

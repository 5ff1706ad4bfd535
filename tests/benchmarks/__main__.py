"""The command line: python -m tests.benchmarks [NAME ...] [--list]."""

import argparse
import concurrent.futures
import importlib
import importlib.util
import multiprocessing
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console

from tests import benchmarks
from tests.benchmarks import harness

NO_TORCH = (
    "needs PyTorch, which is not installed. Install it with: "
    "pip install 'lps_tf[original]'"
)


def discover() -> list[harness.Benchmark]:
    """The benchmarks of every module bench_*.py here."""
    names = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    return [
        benchmark
        for name in names
        if name.startswith("bench_")
        for benchmark in importlib.import_module(f"tests.benchmarks.{name}").BENCHMARKS
    ]


def main(
    arguments: Sequence[str] | None = None,
    known: Sequence[harness.Benchmark] | None = None,
) -> int:
    """Runs benchmarks; returns 0 if all that were asked for were measured."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measures lps_tf's speed against its peers'. Both use every core.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a part of a name")
    parser.add_argument("--list", action="store_true", help="list the names, run none")
    parser.add_argument("--output", default="runs/bench.json", help="%(default)s")
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="of each turn (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns (%(default)s)")
    options = parser.parse_args(arguments)
    known = discover() if known is None else known
    for part in options.names:
        if not any(part in benchmark.name for benchmark in known):
            parser.error(f"no benchmark has {part!r} in its name; see --list")
    chosen = [
        benchmark
        for benchmark in known
        if not options.names or any(part in benchmark.name for part in options.names)
    ]
    if options.list:
        print(*(benchmark.name for benchmark in chosen), sep="\n")
        return 0
    problems = run(chosen, options.output, options.seconds, options.rounds)
    return 1 if problems else 0


def run(
    chosen: Sequence[harness.Benchmark], output: str, seconds: float, rounds: int
) -> dict[str, str]:
    """Measures and prints; returns why any of them has no result, by name."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what is no error is noise
    console = Console()
    if (load := os.getloadavg()[0]) > 0.5:
        console.print(
            f"This machine was busy a moment ago (load {load:.1f}). If it still is, "
            "the sides suffer unequally: measure again when it is idle.",
            style="yellow",
        )
    results, problems = {}, {}
    for benchmark in chosen:
        console.print(f"{benchmark.name} ...", highlight=False)
        if benchmark.needs_torch and importlib.util.find_spec("torch") is None:
            problems[benchmark.name] = NO_TORCH
            continue
        try:
            result = _in_own_process(harness.measure, benchmark, seconds, rounds)
            harness.save(output, benchmark.name, result)
            results[benchmark.name] = result
        except Exception as error:  # the others go on
            traceback.print_exception(error)
            problems[benchmark.name] = harness.reason(error)
    if results:
        console.print(harness.table(results), f"Saved in {output}")
    for name, problem in problems.items():
        # In one line, however long: commands in it are there to be copied.
        console.print(f"{name}: {problem}", style="red", markup=False, soft_wrap=True)
    return problems


def _in_own_process(function: Callable[..., dict], *arguments: Any) -> dict:
    # Memory and threads of one benchmark must not be in the next one's way.
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn) as executor:
        return executor.submit(function, *arguments).result()


if __name__ == "__main__":
    sys.exit(main())

"""The command line: python -m tests.benchmarks [--rows NAME ...] [--list]."""

import argparse
import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests import benchmarks
from tests.benchmarks import harness, machine, results


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
        description="Measures lps_tf's speed against its peers', each in a process of "
        "its own. Rows that the results have already are not measured again.",
    )
    parser.add_argument("--rows", nargs="*", default=[], help="parts of their names")
    parser.add_argument("--list", action="store_true", help="list the rows, run none")
    parser.add_argument("--again", action="store_true", help="measure all rows anew")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/speed"),
        help="folder of a JSON file for each processor (%(default)s); with "
        "docs/results/speed, docs/speed.md shows them",
    )
    parser.add_argument(
        "--avx2", action="store_true", help="as on a processor without AVX-512"
    )
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="of each turn (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns (%(default)s)")
    options = parser.parse_args(arguments)
    known = discover() if known is None else known
    try:
        chosen = harness.pick(known, options.rows)
    except ValueError as error:
        parser.error(str(error))
    if options.list:
        print(*(benchmark.name for benchmark in chosen), sep="\n")
        return 0
    if options.avx2:
        os.environ.update(machine.AVX2_ONLY)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what is no error is noise
    here = machine.describe()
    path = options.output / f"{machine.slug(here)}.json"
    rows = results.load(path)
    console, problems = Console(), {}
    _warn_if_busy(console)
    for i, benchmark in enumerate(chosen, 1):
        title = f"{i}/{len(chosen)} {benchmark.name}"
        if benchmark.name in rows and not options.again:
            console.print(f"{title}: measured before", highlight=False, markup=False)
            continue
        console.print(title, highlight=False, markup=False)
        try:
            with console.status("") as status:
                rows[benchmark.name] = harness.measure(
                    benchmark, options.seconds, options.rounds, status.update
                )
        except Exception as error:  # the others go on
            traceback.print_exception(error)
            problems[benchmark.name] = harness.reason(error)
            continue
        # In the order of the list, without rows that there no longer are.
        rows = {b.name: rows[b.name] for b in known if b.name in rows}
        results.save(path, here, rows)
        console.print(results.table({benchmark.name: rows[benchmark.name]}))
        if options.output.resolve() == results.PUBLISHED:
            results.refresh()
    console.print(f"Results: {path}", highlight=False, soft_wrap=True)
    for name, problem in problems.items():
        # In one line, however long: commands in it are there to be copied.
        console.print(f"{name}: {problem}", style="red", markup=False, soft_wrap=True)
    return 1 if problems else 0


def _warn_if_busy(console: Console) -> None:
    if (load := os.getloadavg()[0]) > 0.5:
        console.print(
            f"This machine was busy a moment ago (load {load:.1f}). If it still is, "
            "the sides suffer unequally: measure again when it is idle.",
            style="yellow",
        )


if __name__ == "__main__":
    sys.exit(main())

"""The harness takes turns, counts right and keeps what it has measured."""

import functools
import json
import operator
import os
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks import harness, machine

ROOT = Path(__file__).parents[2]

# Pretended work that another process can unpickle by itself.
nap = functools.partial(functools.partial, functools.partial, time.sleep)
refused = functools.partial(int, "word")  # raises ValueError
exits = functools.partial(os._exit, 1)  # as a process does that takes too much memory


def benchmark(name="good", ours=None, **peers):
    peers = peers or {"slow": nap(0.02)}
    return harness.Benchmark(name, 1.5, "naps/s", ours or nap(0.01), peers)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(harness, "PAUSE", 0.0)
    monkeypatch.setattr(harness, "elsewhere", lambda function: 123.0)


def test_speeds_are_calls_a_second_and_the_ratio_is_theirs():
    told = []
    sides = benchmark(slow=nap(0.04), slower=nap(0.08), none=refused, dies=exits)
    row = harness.measure(sides, seconds=0.1, rounds=3, tell=told.append)
    # Sleeping takes no less than it is told, so these bounds hold on a busy machine.
    bounds = {"lps_tf": 100, "slow": 25, "slower": 12.5}
    assert row["speeds"].keys() == bounds.keys()
    for name, bound in bounds.items():
        assert len(row["speeds"][name]) == 3
        assert max(row["speeds"][name]) <= bound
    assert row["failed"]["none"].startswith("ValueError: invalid literal")
    assert row["failed"]["dies"].startswith("BrokenProcessPool")
    expected = np.divide(row["speeds"]["lps_tf"], row["speeds"]["slow"])
    assert harness.ratios(row)["slow"] == pytest.approx(expected.tolist())
    assert (row["goal"], row["unit"], row["gflops"]) == (1.5, "naps/s", 123.0)
    assert told[0] == "starting lps_tf" and told[-1] == "round 3 of 3, slower"
    json.dumps(row)


def test_the_fastest_peer_is_so_in_the_median():
    speeds = {"lps_tf": [9, 9, 9], "one": [1, 7, 2], "other": [3, 3, 3]}
    assert harness.fastest({"speeds": speeds}) == "other"
    assert harness.ratios({"speeds": speeds})["one"] == [9, 9 / 7, 4.5]


def leave(path):
    """Work that has files while its process lives."""
    folder = tempfile.mkdtemp()
    Path(path).write_text(folder)
    return functools.partial(os.stat, folder)  # raises without the folder


def test_what_a_side_leaves_goes_with_it(tmp_path):
    from tests.benchmarks.test_harness import leave

    path = tmp_path / "where"
    harness.measure(benchmark(ours=functools.partial(leave, path)), 0.01, 1)
    assert not Path(path.read_text()).exists()


def note(path, name):
    """Work that writes down when it ran, and where."""

    def work():
        start = time.perf_counter()
        time.sleep(0.02)
        with open(path, "a") as file:
            file.write(f"{name} {os.getpid()} {start} {time.perf_counter()}\n")

    return work


def test_one_side_computes_at_a_time_each_in_its_process(tmp_path):
    # By the name that the processes can import.
    from tests.benchmarks.test_harness import note

    path = tmp_path / "log"
    sides = benchmark(
        ours=functools.partial(note, path, "ours"),
        a=functools.partial(note, path, "a"),
        b=functools.partial(note, path, "b"),
    )
    harness.measure(sides, seconds=0.03, rounds=2)
    lines = [line.split() for line in path.read_text().splitlines()]
    runs = [name for i, (name, *_) in enumerate(lines) if [name] != lines[i - 1][:1]]
    assert runs == ["ours", "a", "b"] * 3  # prepared, then two rounds
    pids = {(name, pid) for name, pid, *_ in lines}
    assert len(pids) == len({pid for _, pid in pids}) == 3
    assert str(os.getpid()) not in {pid for _, pid in pids}
    ends = [float(end) for *_, end in lines]
    starts = [float(start) for *_, start, _ in lines]
    assert all(map(operator.le, ends[:-1], starts[1:]))


def test_calls_fill_the_time_and_compiling_does_not_count(monkeypatch):
    clock = [0.0]

    def works(*durations):
        left = iter(durations)

        def work():
            clock[0] += next(left)

        return work

    monkeypatch.setattr(harness.time, "perf_counter", lambda: clock[0])
    # One second a call: alone, two and then four of them, half of eight seconds.
    assert harness._calls(works(50, *[1] * 7), 8) == 8
    assert harness._calls(works(81), 8) == 1
    assert harness._calls(works(50, 20), 8) == 1


def test_slow_sides_get_three_rounds(monkeypatch):
    clock = iter(range(0, 1000, 150))
    # Not in the module time itself, by which processes wait for each other.
    fake = types.SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda _: None)
    monkeypatch.setattr(harness, "time", fake)
    row = harness.measure(benchmark(), seconds=0.01, rounds=9)
    assert len(row["speeds"]["lps_tf"]) == 3


def test_the_reason_of_a_failure_is_one_line():
    assert harness.reason(OSError("no compiler\nand so on")) == "OSError: no compiler"
    assert harness.reason(KeyError()) == "KeyError"


# The command line.


def run(known, folder, *options):
    short = ["--seconds", "0.01", "--rounds", "1", "--output", str(folder)]
    return command.main([*options, *short], known)


def read(folder):
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text())


def test_a_failure_is_reported_and_the_others_go_on(tmp_path, capfd):
    alone = benchmark("alone", gone=refused)
    assert run([benchmark("bad", refused), alone, benchmark()], tmp_path) == 1
    found = read(tmp_path)
    assert found["rows"].keys() == {"good"}
    assert found["machine"] == machine.describe()
    printed = capfd.readouterr().out
    assert "bad: ValueError: invalid literal" in printed
    assert "alone: ValueError: invalid literal" in printed
    assert "3/3 good" in printed


def test_rows_that_are_done_are_kept_until_they_are_asked_for_again(tmp_path, capfd):
    run([benchmark("old"), benchmark("b")], tmp_path)
    before = read(tmp_path)["rows"]["b"]
    known = [benchmark("a"), benchmark("b")]
    assert run(known, tmp_path) == 0
    assert "2/2 b: measured before" in capfd.readouterr().out
    rows = read(tmp_path)["rows"]
    assert list(rows) == ["a", "b"] and rows["b"] == before  # the old one is gone
    assert run(known, tmp_path, "--again", "--rows", "b") == 0
    again = read(tmp_path)["rows"]
    assert again["a"] == rows["a"] and again["b"]["speeds"] != before["speeds"]


def test_an_unknown_name_is_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["--rows", "nothing"], [benchmark()])
    assert "no benchmark has 'nothing' in its name" in capsys.readouterr().err


def test_listing_is_cheap_and_names_are_unique():
    script = (
        "import sys\n"
        "from tests.benchmarks.__main__ import main\n"
        "main(['--list'])\n"
        "heavy = {'tensorflow', 'keras', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    listed = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True
    )
    names = listed.stdout.decode().splitlines()
    assert "train mnist_stn, batch 128" in names
    assert len(set(names)) == len(names)


def test_every_side_can_go_to_another_process():
    import pickle

    for row in command.discover():
        for build in (row.ours, *row.peers.values()):
            pickle.loads(pickle.dumps(build))


# The machine.


def test_the_matrix_rate_counts_multiplications_and_additions(monkeypatch):
    times = iter([0.0, 0.0, 2.0, 9.0])  # end is set, a product of two seconds, the end
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(times))
    assert machine.matrix_rate(100, 1.0) == pytest.approx(2 * 100**3 / 2.0 / 1e9)


def test_a_limited_processor_has_a_file_of_its_own(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    free = machine.describe()
    for name, value in machine.AVX2_ONLY.items():
        monkeypatch.setenv(name, value)
    limited = machine.describe()
    assert not {"avx512f", "amx_tile"} & set(limited["instruction_sets"])
    assert machine.slug(limited) != machine.slug(free)
    assert machine.slug(limited).endswith(f"limited-to-avx2-{limited['cores']}-cores")
    name = {"processor": "Intel(R) Xeon(R) Processor @ 2.50GHz", "cores": 2}
    assert machine.slug(name) == "intel-xeon-processor-2-50ghz-2-cores"

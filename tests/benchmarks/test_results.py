"""The table of docs/speed.md is what the results say."""

import io
import json

import pytest
from rich.console import Console

from tests.benchmarks import results

MACHINE = {
    "processor": "Abacus",
    "cores": 2,
    "instruction_sets": ["avx2", "fma"],
    "python": "3.11",
    "versions": {"lps_tf": "1", "torch": None},
}
ROW = {
    "unit": "steps/s",
    "goal": 1.4,
    "date": "2026-01-02",
    "load": 0.1,
    "gflops": 99.6,
    "speeds": {"lps_tf": [3.0, 3.3, 2.7], "a": [2.0, 2.0, 2.0], "b": [6.0, 6.0, 6.0]},
    "failed": {"c": "OSError: [no] compiler | here"},
}
LINES = [
    "| train, steps/s | 3 (2.7 to 3.3) | a | 2 | 1.5 (1.35 to 1.65) |",
    "| |  | b | 6 | **0.5 (0.45 to 0.55)** |",
    "| | | c | failed: OSError: [no] compiler / here | |",
]


@pytest.fixture
def folder(tmp_path):
    results.save(tmp_path / "speed" / "abacus.json", MACHINE, {"train": ROW})
    return tmp_path / "speed"


def test_the_page_is_made_of_the_results(folder, tmp_path):
    page = tmp_path / "speed.md"
    page.write_text(f"# Speed\n{results.BEGIN}\nold\n{results.END}\nmore\n")
    for _ in range(2):  # again changes nothing
        results.refresh(page, folder)
        text = page.read_text()
        before, measured = text.split(results.BEGIN)
        measured, after = measured.split(results.END)
        assert (before, after) == ("# Speed\n", "\nmore\n")
        assert measured == "\n" + results.markdown(folder)
    assert "old" not in text
    assert "## Abacus" in text and "100 to 100 GFLOP/s" in text
    assert "avx2, fma" in text and "lps_tf 1; 2026-01-02." in text
    found = [" ".join(line.split()) for line in text.splitlines() if "|" in line][2:]
    assert found == [" ".join(line.split()) for line in LINES]


def test_the_documentation_shows_the_results_that_there_are():
    if not list(results.PUBLISHED.glob("*.json")):
        pytest.skip("Nothing has been measured since processors have their own files.")
    page = (results.DOCS / "speed.md").read_text()
    measured = page.split(results.BEGIN)[1].split(results.END)[0]
    assert measured == "\n" + results.markdown(results.PUBLISHED)


def test_rows_come_back_as_they_were(folder):
    assert results.load(folder / "abacus.json") == {"train": ROW}
    assert results.load(folder / "none.json") == {}
    assert json.loads((folder / "abacus.json").read_text())["machine"] == MACHINE


def test_the_table_in_the_terminal_has_all_sides():
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(results.table({"train": ROW}))
    lines = console.export_text().splitlines()
    (a,) = [line for line in lines if " a " in line]
    assert "1.5 (1.35 to 1.65)" in a
    assert any("c: OSError: [no] compiler" in line for line in lines)

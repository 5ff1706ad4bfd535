"""The tutorials of digits run at quick scale."""

import sys

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.tutorials.notebooks import NOTEBOOKS, OF_PHOTOGRAPHS, ROOT, TUTORIALS


@pytest.mark.essential
def test_notebooks_run_in_the_python_of_the_tests(run_notebook):
    source = "import os, sys, lps_tf\n"
    source += "print(sys.executable, os.getcwd(), lps_tf.__file__)"
    executed = run_notebook(new_notebook(cells=[new_code_cell(source)]))
    expected = [sys.executable, str(TUTORIALS), str(ROOT / "lps_tf" / "__init__.py")]
    assert executed.cells[0].outputs[0].text.split() == expected


def tier(path):
    """One notebook is in `make test`, the quickest that builds on no other."""
    return pytest.mark.essential if path.stem == "01_linf_balls" else pytest.mark.slow


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=tier(p)) for p in NOTEBOOKS if p not in OF_PHOTOGRAPHS],
    ids=lambda path: path.stem,
)
def test_it_runs(path, runs_at_quick_scale):
    runs_at_quick_scale(path)

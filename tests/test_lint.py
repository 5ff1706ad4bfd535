"""Everything in the repository is formatted, free of lint, and of the right types."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent


def assert_content(*command):
    result = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_is_content(command):
    assert_content("ruff", *command, ".")


@pytest.mark.slow
def test_mypy_is_content():
    assert_content("mypy")

"""Executing notebooks at quick scale.

What takes long is in two files, of about as many minutes, for two workers.
"""

import os

import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

from tests.tutorials.notebooks import ROOT, TUTORIALS, check_pictures, parameters


@pytest.fixture(scope="session")
def run_notebook(tmp_path_factory):
    """Executes a notebook in the folder of the tutorials, with the tests' Python."""
    folder = tmp_path_factory.mktemp("tutorials")
    # Whatever kernels a user has installed under that name.
    write_kernel_spec(folder / "kernels" / "python3")
    specs = KernelSpecManager(kernel_dirs=[str(folder / "kernels")])
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "IPYTHONDIR": str(folder / "ipython"),
    }

    def run(notebook):
        client = NotebookClient(
            notebook,
            km=AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs),
            timeout=1200,
            resources={"metadata": {"path": str(TUTORIALS)}},
            # What libraries write to file descriptors is no output of a cell.
            extra_arguments=["--IPKernelApp.capture_fd_output=False"],
        )
        return client.execute(env=environment, cleanup_kc=True)

    return run


@pytest.fixture(scope="session")
def quick_parameters(tmp_path_factory):
    """The same folders for all of one file: what they share is run once."""
    output, data = (tmp_path_factory.mktemp(name) for name in ("quick", "data"))
    return f'SCALE = "quick"\nOUTPUT = {str(output)!r}\nDATA_DIR = {str(data)!r}'


def written_files():
    """Where a tutorial could leave something in the repository."""
    folders = (TUTORIALS, ROOT / "runs" / "quick")
    return {path for folder in folders for path in folder.rglob("*")}


@pytest.fixture
def runs_at_quick_scale(run_notebook, quick_parameters):
    """Checks that a notebook runs, shows pictures, and writes where it is told."""

    def check(path):
        notebook = nbformat.read(path, as_version=4)
        (cell,) = parameters(notebook)
        place = notebook.cells.index(cell) + 1
        notebook.cells.insert(place, new_code_cell(quick_parameters))
        before = written_files()
        executed = run_notebook(notebook)
        assert written_files() - before == set()
        check_pictures(executed)

    return check

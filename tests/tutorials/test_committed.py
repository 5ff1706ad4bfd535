"""As committed, the tutorials can be read."""

import ast
import re

import nbformat
import pytest
from nbformat.v4 import (
    new_code_cell,
    new_markdown_cell,
    new_notebook,
    new_output,
)

from tests.tutorials.notebooks import (
    NOTEBOOKS,
    check_pictures,
    code_cells,
    parameters,
)

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_tutorials_are_numbered_without_a_gap():
    numbers = [path.name[:3] for path in NOTEBOOKS]
    assert numbers == [f"{number:02}_" for number in range(len(NOTEBOOKS))]
    assert len(NOTEBOOKS) >= 13


# What a committed notebook has to be. Each check raises an AssertionError.


def texts(notebook):
    """All that a reader sees, but for pictures."""
    for cell in notebook.cells:
        yield cell.source
        for output in cell.get("outputs", []):
            yield output.get("text", "")
            yield "\n".join(output.get("traceback", []))
            for kind, value in output.get("data", {}).items():
                if not kind.startswith("image/"):
                    yield str(value)


def check_parameters(notebook):
    cells = parameters(notebook)
    assert len(cells) == 1, "one cell must be tagged `parameters`"
    values = {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in ast.parse(cells[0].source).body
    }
    assert values == {"SCALE": "laptop", "DATA_DIR": None, "OUTPUT": None}


def check_executed(notebook):
    cells = [cell for cell in code_cells(notebook) if cell.source.strip()]
    counts = [cell.execution_count for cell in cells]
    assert counts == list(range(1, len(cells) + 1)), "not executed from top to bottom"


def check_no_errors(notebook):
    for cell in code_cells(notebook):
        kinds = [(o.output_type, o.get("name")) for o in cell.outputs]
        assert not any(kind == "error" for kind, _ in kinds), f"error in {cell.source}"
        assert ("stream", "stderr") not in kinds, f"stderr of {cell.source}"


def is_private(name):
    return any(part.startswith("_") and part[:2] != "__" for part in name.split("."))


def check_public_names(notebook):
    for cell in code_cells(notebook):
        used = []
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Attribute):
                used.append(node.attr)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                used += [getattr(node, "module", None) or ""]
                used += [alias.name for alias in node.names]
        private = [name for name in used if is_private(name)]
        assert not private, f"private names {private} in {cell.source}"


def check_no_paths(notebook):
    folder = re.compile(r"(?<![\w.])/(home|root|tmp|work|Users)/\S*")
    for text in texts(notebook):
        found = folder.search(text)
        assert not found, f"a path of somebody's machine: {found[0]}"


CHECKS = (
    check_parameters,
    check_executed,
    check_no_errors,
    check_pictures,
    check_public_names,
    check_no_paths,
)


@each_notebook
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_committed_tutorials_can_be_read(path, check):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    check(notebook)


# Notebooks that a check must not let pass.


def picture(alt="a digit", kind="image/png"):
    return new_output("display_data", {kind: "iVBOR"}, metadata={kind: {"alt": alt}})


def caption(text="*A digit.*"):
    return new_output("display_data", {"text/markdown": text})


def stream(name, text):
    return new_output("stream", name=name, text=text)


def good_notebook():
    values = 'SCALE = "laptop"  # or "paper"\nDATA_DIR = None\nOUTPUT = None'
    show = "plots.show(figure, caption, alt)\nprint(lps.__version__)"
    return new_notebook(
        cells=[
            new_markdown_cell("# Title: ../runs/laptop, https://example.org/work/1"),
            new_code_cell(
                "from __future__ import annotations\n"
                "import lps_tf as lps\nfrom lps_tf import plots",
                execution_count=1,
            ),
            new_code_cell(values, execution_count=2, metadata={"tags": ["parameters"]}),
            new_code_cell(""),
            new_code_cell(
                show,
                execution_count=3,
                outputs=[picture(), caption(), stream("stdout", "1.0")],
            ),
        ]
    )


def last(notebook):
    return notebook.cells[-1]


def appended(source):
    return lambda notebook: last(notebook).update(source=source)


def shown(*outputs):
    return lambda notebook: last(notebook).update(outputs=list(outputs))


def also_shown(output):
    return lambda notebook: last(notebook).outputs.append(output)


BROKEN = {
    "no tag": (check_parameters, lambda nb: nb.cells[2].metadata.clear()),
    "two tags": (
        check_parameters,
        lambda nb: last(nb).metadata.update(tags=["parameters"]),
    ),
    "other scale": (
        check_parameters,
        lambda nb: nb.cells[2].update(source='SCALE = "quick"'),
    ),
    "not executed": (check_executed, lambda nb: last(nb).update(execution_count=None)),
    "executed twice": (check_executed, lambda nb: last(nb).update(execution_count=4)),
    "error": (
        check_no_errors,
        also_shown(new_output("error", ename="E", evalue="", traceback=[])),
    ),
    "stderr": (check_no_errors, also_shown(stream("stderr", "warning"))),
    "no picture": (check_pictures, shown(caption())),
    "empty alt text": (check_pictures, shown(picture(" "), caption())),
    "no alt text": (
        check_pictures,
        shown(new_output("display_data", {"image/png": "iVBOR"}), caption()),
    ),
    "no alt text of a drawing": (
        check_pictures,
        shown(picture(), caption(), picture("", "image/svg+xml"), caption()),
    ),
    "no caption": (check_pictures, shown(picture())),
    "caption before": (check_pictures, shown(caption(), picture())),
    "text for a caption": (check_pictures, shown(picture(), stream("stdout", "A"))),
    "private function": (check_public_names, appended("lps.plots._show(axis, image)")),
    "private name at the top": (check_public_names, appended("lps._keras")),
    "private method": (check_public_names, appended("pset._decode(x, u)")),
    "private import": (check_public_names, appended("from lps_tf.quality import _a")),
    "private module": (check_public_names, appended("import lps_tf._version as v")),
    "from private module": (
        check_public_names,
        appended("from lps_tf._version import __version__"),
    ),
    "path in code": (check_no_paths, appended('OUTPUT = "/Users/me/runs"')),
    "path in text": (check_no_paths, lambda nb: nb.cells[0].update(source="/tmp/x")),
    "path in a stream": (check_no_paths, also_shown(stream("stdout", "wrote /tmp/a"))),
    "path in a result": (
        check_no_paths,
        also_shown(new_output("display_data", {"text/plain": "Path('/Users/a')"})),
    ),
}


def failing_checks(notebook):
    failing = []
    for check in CHECKS:
        try:
            check(notebook)
        except AssertionError:
            failing.append(check)
    return failing


def test_a_good_notebook_passes_every_check():
    assert failing_checks(good_notebook()) == []


@pytest.mark.parametrize("fault", BROKEN)
def test_each_check_finds_what_it_is_for(fault):
    check, damage = BROKEN[fault]
    notebook = good_notebook()
    damage(notebook)
    nbformat.validate(notebook)
    assert failing_checks(notebook) == [check]

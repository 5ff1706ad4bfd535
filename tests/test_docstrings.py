"""Descriptions of arguments read as sentences by themselves."""

import ast
import inspect
import pathlib
import re

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "lps_tf"
ENTRY = re.compile(r"^(\*{0,2}\w+|\([^)]*\)): (.*)")
# Names of types and modules are written as they are in code.
CODE = re.compile(r"(u?int|float|bool)\d*\b|tf\.")
SECTIONS = ("Args:", "Raises:", "Attributes:")


def entries(docstring):
    """Names and descriptions of the sections that list some."""
    inside = False
    for line in inspect.cleandoc(docstring).splitlines():
        if line and not line.startswith(" "):
            inside = line in SECTIONS
        elif inside and (match := ENTRY.match(line[4:])):
            yield match.groups()


def problems(source):
    """Descriptions that go on from the name instead of standing by themselves."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(ast.parse(source)):
        docstring = isinstance(node, kinds) and ast.get_docstring(node)
        for name, text in entries(docstring or ""):
            if re.match(r"[a-z]|Of\b", text) and not CODE.match(text):
                yield f"{name}: {text}"


def test_what_goes_on_from_the_name_is_found():
    source = '"""Summary.\n\nArgs:\n    radius: {}\n"""'
    for text in ("of the ball.", "Of the ball.", "the ball's."):
        assert list(problems(source.format(text))) == [f"radius: {text}"]
    assert not list(problems(source.format("Radius of the ball: one.")))


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize(
    "file",
    FILES,
    ids=lambda file: str(file.relative_to(PACKAGE)),
)
def test_descriptions_of_arguments_stand_by_themselves(file):
    assert not list(problems(file.read_text()))

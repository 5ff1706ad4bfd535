"""Docstrings here are prose in which only backticks are markup; Sphinx reads more."""

import re
from collections.abc import Sequence


def escaped(lines: Sequence[str]) -> list[str]:
    """Makes reStructuredText of a docstring in Google's style.

    Args:
        lines: Lines of the docstring. Indented after a colon and an empty line, or
            below "Example:", they are code.

    Returns:
        Lines in which nothing but backticks, bullets and sections is markup.
    """
    result: list[str] = []
    code = None  # the indentation of what came before a block of code
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if code is not None and line.strip() and indent <= code:
            code = None
        if code is not None:
            result.append("    " + line if line.strip() else line)
            continue
        before = result[-2] if len(result) > 1 and not result[-1] else ""
        opening = len(before) - len(before.lstrip())
        if before.endswith(":") and indent > opening:  # a block of code, as in Markdown
            result[-2] += ":"
            code = opening
            result.append("    " + line)
            continue
        result.append(_escape_line(line))
        if line.strip() == "Example:":
            code = indent
            result += ["", " " * (indent + 4) + ".. code-block:: python", ""]
    return result


def _escape_line(line: str) -> str:
    bullet, text = re.match(r"(\s*(?:\* )?)(.*)", line, re.S).groups()
    parts = text.split("`")
    # Parts of even index are prose. A backtick ends where a letter may follow it.
    parts[::2] = [re.sub(r"([*|\\]|_(?=\W|$))", r"\\\1", part) for part in parts[::2]]
    for i in range(2, len(parts), 2):
        if parts[i][:1].isalnum():
            parts[i] = "\\ " + parts[i]
    return bullet + "`".join(parts)

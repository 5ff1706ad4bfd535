"""What the Markdown pages of the repository claim about its files and its tests."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
DIFFERENCES = ROOT / "docs" / "differences.md"


def without_code(text):
    """The text, without blocks and spans of code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))


def anchors(page):
    """The anchors of a page's headings, named as GitHub names them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
    kept = (re.sub(r"[^\w\- ]", "", heading).lower() for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text()))
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(file), target


def test_each_difference_from_the_released_code_names_a_test_that_exists():
    rows = re.findall(r"^\|(.+)\|$", DIFFERENCES.read_text(), flags=re.M)[2:]
    assert len(rows) >= 12
    for row in rows:
        named = re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", row.split("|")[-1])
        assert named, row
        for file, name in named:
            (path,) = (ROOT / "tests").rglob(file)
            assert f"def {name or 'test_'}" in path.read_text(), name

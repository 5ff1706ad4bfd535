"""What makes the documentation site; `make docs` builds it, which is its own test."""

import argparse

import lps_tf as lps
from docs.site import api, checks, docstrings, pages


def test_each_public_name_of_the_package_and_its_rooms_has_one_entry():
    sections = [section for page in api.pages().values() for section in page]
    entries = [entry.name for section in sections for entry in section.entries]
    entries += [section.module.__name__ for section in sections]
    assert len(set(entries)) == len(entries)
    names = {f"lps_tf.{name}" for name in lps.__all__} - {"lps_tf.__version__"}
    assert names < {*api.all_names()} and len(api.all_names()) > 100
    assert checks.without_entry({*entries}) == []
    without = {*entries} - {"lps_tf.SmoothedClassifier"}
    assert len(checks.without_entry(without)) == 1


def test_what_a_page_would_fetch_is_found(tmp_path):
    (tmp_path / "page.html").write_text(
        '<a href="https://a.org">a link</a><img src="picture.png"><script src="x.js">'
    )
    (tmp_path / "style.css").write_text("body { background: url(picture.png) }")
    assert checks.fetched(tmp_path) == []
    (tmp_path / "style.css").write_text("@import url(//fonts.org/a.css);")
    (tmp_path / "page.html").write_text(
        '<script async src="https://a.org/x.js"></script>'
        '<link rel="stylesheet" href="http://b.org/y.css">'
    )
    found = "\n".join(checks.fetched(tmp_path))
    assert all(name in found for name in ("a.org", "b.org", "fonts.org"))


def test_the_site_has_all_rooms():
    folders = {p.parent.name for p in (pages.ROOT / "lps_tf").glob("*/__init__.py")}
    assert set(api.ROOMS) == folders - {"_internal"}


def test_docstrings_keep_code_and_lose_other_markup():
    lines = [
        "A * b of `x * y`s, |u| and name_.",
        "",
        "Example:",
        "    f(*args, **options)",
        "",
        "As in Markdown:",
        "",
        "    g(|u|)",
        "",
        "* a bullet",
    ]
    assert docstrings.escaped(lines) == [
        "A \\* b of `x * y`\\ s, \\|u\\| and name\\_.",
        "",
        "Example:",
        "",
        "    .. code-block:: python",
        "",
        "        f(*args, **options)",
        "",
        "As in Markdown::",
        "",
        "        g(|u|)",
        "",
        "* a bullet",
    ]


def test_the_command_line_page_has_the_help_of_each_command(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")  # its width is the page's, not the terminal's
    known = []
    add_parser = argparse._SubParsersAction.add_parser

    def recording(self, name, **options):
        known.append(name)
        return add_parser(self, name, **options)

    monkeypatch.setattr(argparse._SubParsersAction, "add_parser", recording)
    page = pages.command_line_page()
    assert {"demo", "run", "import-original"} <= set(known)
    for name in set(known):
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert f"usage: python -m lps_tf {name}" in section
    assert max(map(len, page.splitlines())) > 60


def test_the_model_cards_are_on_one_page():
    page = pages.model_cards_page()
    folders = [path.parent.name for path in pages.ROOT.glob("saved_models/*/card.json")]
    assert folders
    for folder in folders:
        assert f"[{folder}]({folder}/README.md)" in page

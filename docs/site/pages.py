"""Stages the pages of the site: the repository's own, and those made from data.

The staged folder mirrors the repository, so that links between pages, notebooks and
pictures stay as they are.
"""

import contextlib
import io
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from docs.site import api
from lps_tf import __main__ as command_line

ROOT = Path(__file__).parents[2]

#: Pages in the order of the contents; what else is in docs/ follows them.
GUIDE = (
    "docs/data",
    "docs/presets",
    "docs/parametric_sets",
    "docs/certificates",
    "docs/explorer",
    "docs/faq",
)
RESULTS = (
    "docs/results/README",
    "docs/results/laptop",
    "docs/attack_strength",
    "docs/limits",
    "docs/speed",
    "docs/paper_scale",
    "docs/differences",
)
REFERENCE = ("api/index", "docs/command_line", "saved_models/index", "docs/glossary")
PROJECT = ("CONTRIBUTING", "docs/releasing", "SECURITY", "CHANGELOG")

_LINK = re.compile(r"\[([^\[\]]*)\]\(([^)\s:#]+)((?:#[^)\s]*)?)\)")


def stage(folder: Path) -> None:
    """Fills a folder with the sources of the site."""
    shutil.rmtree(folder, ignore_errors=True)
    for page in _pages():
        _copy(page, folder)
    _write(folder / "docs/command_line.md", command_line_page())
    _write(folder / "saved_models/index.md", model_cards_page())
    (folder / "api").mkdir(parents=True)
    found = api.write(folder / "api")
    _write(folder / "api/aliases.json", json.dumps(api.aliases(found), indent=1))
    _front_page(folder)


def _pages() -> list[Path]:
    """What the repository has written down."""
    notebooks = sorted((ROOT / "tutorials").glob("*.ipynb"))
    cards = sorted((ROOT / "saved_models").glob("*/README.md"))
    return [
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
        *notebooks,
        *cards,
    ]


def _copy(page: Path, folder: Path) -> None:
    """Copies a page and the files that it links to, and names folders' pages."""
    target = folder / page.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    if page.suffix == ".ipynb":
        shutil.copy(page, target)
        return

    def staged_link(match: re.Match) -> str:
        text, link, anchor = match.groups()
        file = (page.parent / link).resolve()
        if file == ROOT / "saved_models":
            return f"[{text}]({link.rstrip('/')}/index.md{anchor})"
        if file.is_dir():  # it has no page
            return text
        if file.suffix not in (".md", ".ipynb") and file.is_file():
            copy = folder / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
        return match.group()

    _write(target, _LINK.sub(staged_link, page.read_text()))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _front_page(folder: Path) -> None:
    readme = folder / "README.md"
    notebooks = [
        f"tutorials/{p.stem}" for p in sorted((folder / "tutorials").glob("*.ipynb"))
    ]
    cards = [
        f"{p.parent.name}/README"
        for p in sorted(folder.glob("saved_models/*/README.md"))
    ]
    named = {*GUIDE, *RESULTS, *REFERENCE, *PROJECT}
    others = [
        name
        for path in sorted((folder / "docs").rglob("*.md"))
        if (name := str(path.relative_to(folder).with_suffix(""))) not in named
    ]
    contents = {
        "Guide": (*GUIDE, *others),
        "Tutorials": notebooks,
        "Results": RESULTS,
        "Reference": REFERENCE,
        "Project": PROJECT,
    }
    trees = [
        _toctree(caption, [name for name in names if _exists(folder, name)])
        for caption, names in contents.items()
    ]
    _write(folder / "index.md", "\n".join([readme.read_text(), *trees]))
    readme.unlink()
    models = folder / "saved_models/index.md"
    _write(models, models.read_text() + "\n" + _toctree("", cards))
    _rename_links_to_readme(folder)


def _rename_links_to_readme(folder: Path) -> None:
    """The README is the index of the site."""
    for page in folder.rglob("*.md"):
        up = "../" * (len(page.relative_to(folder).parts) - 1)
        text = page.read_text()
        _write(page, re.sub(rf"\]\({re.escape(up)}README\.md", f"]({up}index.md", text))


def _exists(folder: Path, name: str) -> bool:
    return any(
        (folder / f"{name}{suffix}").exists() for suffix in (".md", ".rst", ".ipynb")
    )


def _toctree(caption: str, names: Sequence[str]) -> str:
    options = [
        ":hidden:",
        ":maxdepth: 1",
        *([f":caption: {caption}"] if caption else []),
    ]
    return "\n".join(["```{toctree}", *options, "", *names, "```", ""])


def command_line_page() -> str:
    """The help of each command, as argparse prints it."""
    overview = _help()
    commands = re.findall(r"^    ([a-z][\w-]*)(?: |$)", overview, flags=re.M)
    parts = [
        "# Command line",
        "`lps-tf` and `python -m lps_tf` are the same.",
        f"```text\n{overview}```",
    ]
    for command in commands:
        parts.append(f"## {command}\n\n```text\n{_help(command)}```")
    return "\n\n".join(parts) + "\n"


def _help(*command: str) -> str:
    printed = io.StringIO()
    columns = mock.patch.dict(os.environ, COLUMNS="80")  # argparse asks the terminal
    with columns, contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        command_line.main([*command, "--help"])
    return printed.getvalue()


def model_cards_page() -> str:
    """A table of the published models, from their cards."""
    rows = [
        "# Model cards",
        "The models of `saved_models/` are SavedModels that need TensorFlow alone. "
        "Each card has the data, figures, signatures, and the command that makes the "
        "model again.",
        "| model | what it is | trained on | MB |\n|---|---|---|---|",
    ]
    cards = sorted((ROOT / "saved_models").glob("*/card.json"))
    table = []
    for path in cards:
        card = json.loads(path.read_text())
        about, data = card["about"], card["data"]
        table.append(
            f"| [{card['folder']}]({card['folder']}/README.md) | {about} | {data} "
            f"| {card['megabytes']:.1f} |"
        )
    return "\n\n".join(rows) + "\n" + "\n".join(table) + "\n"

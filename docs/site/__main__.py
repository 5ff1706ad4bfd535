"""Builds the site: `python -m docs.site`, offline, and with no warning."""

import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import main as sphinx
from sphinx.util.inventory import InventoryFile

from docs.site import checks, pages


def main() -> int:
    """Builds the site into runs/site; returns 0 if nothing is wrong with it."""
    sources, site = Path("runs/site_sources"), Path("runs/site")
    shutil.rmtree(site, ignore_errors=True)
    pages.stage(sources)
    here = str(Path(__file__).parent)
    if sphinx(["-c", here, "--fail-on-warning", "--quiet", str(sources), str(site)]):
        return 1
    with (site / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", lambda base, uri: uri)
    kinds = (names for kind, names in inventory.items() if kind.startswith("py:"))
    problems = [*checks.without_entry(set().union(*kinds)), *checks.fetched(site)]
    print(*problems or [site / "index.html"], sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

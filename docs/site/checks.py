"""What has to hold for the site, besides a build without warnings."""

import re
from collections.abc import Set
from pathlib import Path

from docs.site import api

#: What a browser would fetch from another machine: scripts, pictures, styles.
_IN_PAGES = re.compile(
    r"<(?:script|img|iframe|source|audio|video|embed)\b[^>]*\bsrc=[\"'](?:https?:)?//[^>]*"
    r"|<link\b(?![^>]*rel=[\"']canonical)[^>]*\bhref=[\"'](?:https?:)?//[^>]*"
)
_IN_STYLES = re.compile(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^)\s]*")


def fetched(site: Path) -> list[str]:
    """What the pages and styles of a site would fetch from another machine."""
    found = []
    for pattern, suffixes in ((_IN_PAGES, ("html",)), (_IN_STYLES, ("html", "css"))):
        for path in sorted(f for s in suffixes for f in site.rglob(f"*.{s}")):
            hits = pattern.findall(path.read_text())
            found += [f"{path} fetches {hit}" for hit in hits]
    return found


def without_entry(entries: Set[str]) -> list[str]:
    """The public names of the package and its rooms that have no entry."""
    known = api.aliases(api.pages())
    return [
        f"{name} has no entry in the API"
        for name in api.all_names()
        if known.get(name, name) not in entries
    ]

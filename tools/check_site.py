"""Check a built documentation site: ``python tools/check_site.py build/site``.

A page must load nothing from another host, and every link inside the site must lead to a file and, where it names one,
to an element of it. Links to other sites are counted, or listed with ``--external``; they are not opened.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

import tyro

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}
STYLE_URL = re.compile(r"""(?:url\(\s*|@import\s+)["']?(?!data:)(https?:)?//""")
NOT_LOADED = {"canonical", "alternate", "author", "help", "index", "next", "prev", "search", "license"}
"""Values of ``rel`` under which a browser loads nothing."""


class Page(HTMLParser):
    """Links, loaded addresses and element names of an HTML page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the addresses and the name of an element."""
        values = {name: value for name, value in attrs if value is not None}
        self.names |= {values[name] for name in ("id", "name") if name in values}
        address = values.get(LOADED.get(tag, ""), "")
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif address and not set(values.get("rel", "").split()) & NOT_LOADED:
            self.loaded.append(address)


def is_external(address: str) -> bool:
    """Return whether an address is on another host."""
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme in ("http", "https")


def check(site: Path) -> tuple[list[str], list[str], int]:
    """Return the faults of a site, its links to other sites, and the number of its pages."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    faults, external = [], set()
    for path in site.rglob("*.css"):
        if STYLE_URL.search(path.read_text(encoding="utf-8")):
            faults.append(f"{path.relative_to(site)}: loads from another host")
    for path, page in pages.items():
        here = path.relative_to(site)
        faults += [f"{here}: loads {address}" for address in page.loaded if is_external(address)]
        for address in [*page.links, *page.loaded]:
            parts = urlsplit(address)
            if is_external(address):
                external.add(address)
                continue
            if parts.scheme in ("mailto", "data", "javascript"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                faults.append(f"{here}: {address}: no such file")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].names:
                faults.append(f"{here}: {address}: no such element")
    return faults, sorted(external), len(pages)


def main(site: Annotated[Path, tyro.conf.Positional], /, *, external: bool = False) -> int:
    """Check a site, and return 1 if it has a fault.

    Args:
        site: folder of the built pages.
        external: list the links to other sites.
    """
    faults, others, pages = check(site.resolve())
    for line in [*faults, *(others if external else ())]:
        print(line)
    print(f"{pages} pages, {len(faults)} faults, {len(others)} links to other sites (not opened)")
    return bool(faults) or not pages


if __name__ == "__main__":
    sys.exit(tyro.cli(main))

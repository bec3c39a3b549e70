"""Links of a built site, checked without a network: every page, file and anchor that a page names exists."""

import html
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

TAG = re.compile(r"<[a-zA-Z][^<>]*>")
ATTRIBUTE = re.compile(r"\s(id|name|href|src)=(?:\"([^\"]*)\"|'([^']*)')")


class Page:
    """The anchors that a page has, and the files and parts of them that it names."""

    def __init__(self, path: Path) -> None:
        self.anchors: set[str] = {"", "top"}
        addresses: dict[str, None] = {}
        for tag in TAG.findall(path.read_text(encoding="utf-8")):
            for name, one, other in ATTRIBUTE.findall(tag):
                value = html.unescape(one or other)
                if name in ("id", "name"):
                    self.anchors.add(value)
                elif value:
                    addresses[value] = None
        self.links = [(address, *_target(path, address)) for address in addresses if _inside(address)]


def read(site: Path) -> dict[Path, Page]:
    """Every page of the site."""
    return {path.resolve(): Page(path.resolve()) for path in sorted(site.rglob("*.html"))}


def broken(site: Path) -> Iterator[str]:
    """What is wrong with the links of the site, one line each."""
    pages = read(site)
    for path, page in pages.items():
        for address, target, part in page.links:
            where = f"{path.relative_to(site.resolve())}: {address}"
            if not target.is_file():
                yield f"{where} leads nowhere"
            elif target in pages and part not in pages[target].anchors:
                yield f"{where} has no such part"


def main() -> int:
    """Prints what is broken below the folder given; returns the exit status."""
    found = list(broken(Path(sys.argv[1])))
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    return 1 if found else 0


def _inside(address: str) -> bool:
    parts = urlsplit(address)
    return not parts.scheme and not parts.netloc


def _target(path: Path, address: str) -> tuple[Path, str]:
    parts = urlsplit(address)
    return (path.parent / unquote(parts.path)).resolve() if parts.path else path, unquote(parts.fragment)


if __name__ == "__main__":
    raise SystemExit(main())

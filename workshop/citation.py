"""The papers' part of CITATION.cff, written from papers.toml.

    python workshop/citation.py            verify
    python workshop/citation.py --write    write all that stands below `references:`

Standard library only.
"""

import argparse
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CITATION = ROOT / "CITATION.cff"
HEADING = "references:\n"
GIVEN_NAMES = {
    "ConPreDiff": "Ling, Jingwei, Shenda, Zhilong, Zhilin, Zheming, Wentao, Bin",
    "VQ-Diffusion": "Shuyang, Dong, Jianmin, Fang, Bo, Dongdong, Lu, Baining",
    "Rectified Flow": "Xingchao, Chengyue, Qiang",
}
"""Of the papers whose authors the family names do not tell apart."""


def reference(key: str, paper: Mapping[str, Any]) -> Iterator[str]:
    """The lines of one paper: an article where its venue is a journal or a preprint, else a conference paper.

    Raises:
        ValueError: two authors of one name, which the format forbids.
    """
    families = paper["authors"].split(", ")
    given = GIVEN_NAMES[key].split(", ") if key in GIVEN_NAMES else [""] * len(families)
    if len(set(zip(families, given, strict=True))) < len(families):
        raise ValueError(f"{key} has several authors of one name: add its GIVEN_NAMES in workshop/citation.py")
    is_article = paper["venue"].startswith(("arXiv", "IEEE"))
    yield f"  - type: {'article' if is_article else 'conference-paper'}"
    yield f'    title: "{paper["title"]}"'
    yield "    authors:"
    for family, first in zip(families, given, strict=True):
        yield f"      - family-names: {family}"
        yield from [f"        given-names: {first}"] if first else []
    yield f"    year: {paper['year']}"
    yield from (
        [f"    journal: {paper['venue']}"] if is_article else ["    conference:", f"      name: {paper['venue']}"]
    )


def with_references(citation: str, papers: Mapping[str, Mapping[str, Any]]) -> str:
    """A CITATION.cff whose references are the papers."""
    lines = [line for key, paper in papers.items() for line in reference(key, paper)]
    return citation.partition(HEADING)[0] + HEADING + "\n".join(lines) + "\n"


def main() -> None:
    """Verifies CITATION.cff, or writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write what stands below `references:`")
    text = with_references(CITATION.read_text(), tomllib.loads((ROOT / "papers.toml").read_text()))
    if parser.parse_args().write:
        CITATION.write_text(text)
    if CITATION.read_text() != text:
        sys.exit("CITATION.cff and papers.toml differ: python workshop/citation.py --write")


if __name__ == "__main__":
    main()

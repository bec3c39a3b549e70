"""Docstrings as reStructuredText: paragraphs, indented formulas, sections of items, lists, and tags as fields."""

import re
from collections.abc import Iterator, Sequence

SECTION = re.compile(r"(Args|Raises|Returns|Yields|Attributes|Note|Example):")
TAG = re.compile(r"(Source|Deviation|Unstated):\s*(.*)")
ITEM = re.compile(r"([\w.*]+(?:, [\w.*]+)*):\s+(.*)")
SPAN = re.compile(r"(``[^`]+``|`[^`\n]+`|(?<![\\\w$])\$[^$\n]+\$(?![\w$]))")


def restructured(lines: Sequence[str]) -> list[str]:
    """A docstring, dedented, in the markup that autodoc reads."""
    written: list[str] = []
    for block in blocks(lines):
        written += [*_block(block), ""]
    return written


def blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    """Runs of lines between blank ones; a section keeps the indented runs below it."""
    run: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            run.append(line.rstrip())
        elif run:
            yield run
            run = []


def inline(text: str) -> str:
    """Text with code and formulas marked up, and all else taken as it stands."""
    parts = SPAN.split(text)
    return "".join(_span(part) if n % 2 else _escaped(part) for n, part in enumerate(parts))


def _block(block: Sequence[str]) -> list[str]:
    if all(line.startswith("    ") for line in block):
        return ["::", "", *block]
    if block[0].startswith("$$") and block[-1].endswith("$$"):
        return [".. math::", "", "    " + " ".join(line.strip() for line in block).strip("$ ")]
    if SECTION.fullmatch(block[0]):
        return [f"*{block[0]}*", "", *(f"* {_item(text)}" for text in _joined(block[1:], 4)), ""]
    if TAG.match(block[0]):
        return [f":{kind}: {inline(text)}" for kind, text in map(_tag, _joined(block, 0))]
    if any(line.startswith("* ") for line in block):
        before = block[: next(n for n, line in enumerate(block) if line.startswith("* "))]
        items = _joined(block[len(before) :], 0)
        return [*([inline(" ".join(before)), ""] if before else []), *(f"* {inline(item[2:])}" for item in items)]
    return _paragraph(block)


def _paragraph(block: Sequence[str]) -> list[str]:
    """A paragraph up to the first tag in it, a formula that is indented in it apart."""
    for number, line in enumerate(block):
        if number and TAG.match(line):
            return [*_paragraph(block[:number]), "", *_block(block[number:])]
        if number and SECTION.fullmatch(line):
            return [*_paragraph(block[:number]), "", *_block(block[number:])]
    flush = [line for line in block if not line.startswith("    ")]
    if len(flush) == len(block):
        return [inline(" ".join(block))]
    first = next(n for n, line in enumerate(block) if line.startswith("    "))
    last = next((n for n in range(first, len(block)) if not block[n].startswith("    ")), len(block))
    rest = _paragraph(block[last:]) if last < len(block) else []
    return [inline(" ".join(block[:first])), "", "::", "", *block[first:last], "", *rest]


def _joined(lines: Sequence[str], indent: int) -> list[str]:
    """Lines at this indent with what hangs below them."""
    joined: list[str] = []
    for line in lines:
        starts = len(line) - len(line.lstrip()) <= indent
        if starts or not joined:
            joined.append(line.strip())
        else:
            joined[-1] = f"{joined[-1]} {line.strip()}"
    return joined


def _item(text: str) -> str:
    found = ITEM.fullmatch(text)
    return f"``{found[1]}``: {inline(found[2])}" if found else inline(text)


def _tag(text: str) -> tuple[str, str]:
    found = TAG.fullmatch(text)
    return (found[1], found[2]) if found else ("Note", text)


def _span(part: str) -> str:
    if part.startswith("$"):
        return f":math:`{part[1:-1]}`"
    return f"``{part.strip('`')}``"


def _escaped(text: str) -> str:
    return re.sub(r"([\\*_|<>`])", r"\\\1", text)

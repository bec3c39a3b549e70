"""Double-entry books between the papers and this code.

`papers.toml` promises places: sections, equations, algorithms, tables, figures. Docstrings answer with tags:
`Source:` in code implements a place, `Checks:` in a test holds it to an oracle, `Deviation:` says where we differ from
the paper and `Unstated:` what the paper leaves open. A tag runs to the next tag, blank line or end of its docstring.

    python docs/traceability.py            verify, and fail where a promise is broken or a table is out of date
    python docs/traceability.py --write    the same, and write the tables in docs/ and the README's summary

Standard library only, so that it runs wherever Python does.
"""

import argparse
import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

KINDS = ("section", "equation", "algorithm", "table", "figure")
TESTED_KINDS = ("equation", "algorithm")
TAG = re.compile(r"\s*(Source|Checks|Deviation|Unstated):(.*)")
SUMMARY = re.compile(r"(<!-- traceability -->\n).*?(<!-- /?traceability -->)", re.DOTALL)
NOTICE = "<!-- Written by `nox -s traceability -- --write` from the docstrings; edit those. -->\n"

Place = tuple[str, str]


@dataclass(frozen=True)
class Promise:
    """One place of one paper, as `papers.toml` has it."""

    paper: str
    place: str
    kind: str
    line: int


@dataclass(frozen=True)
class Tag:
    """One tagged line of a docstring: what it says, who says it, and where."""

    kind: str
    text: str
    symbol: str
    path: Path
    line: int
    in_test: bool


@dataclass
class Books:
    """The promises, who implements and who checks each of them, and all that is wrong with the entries."""

    titles: dict[str, str]
    promises: dict[Place, Promise]
    tags: list[Tag]
    sources: dict[Place, list[Tag]] = field(default_factory=dict)
    checks: dict[Place, list[Tag]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_books(root: Path) -> Books:
    """Reads `papers.toml` and every docstring below `root`, and balances the two."""
    titles, promises, problems = read_promises(root / "papers.toml")
    tags = [tag for path, in_test in python_files(root) for tag in read_tags(root, path, in_test=in_test)]
    books = Books(titles, {(p.paper, p.place): p for p in promises}, tags, problems=problems)
    for tag in tags:
        enter(books, tag)
    for place, promise in books.promises.items():
        where = f"papers.toml:{promise.line}: {promise.paper} {promise.place}"
        if place not in books.sources:
            books.problems.append(f"{where} is promised, but no docstring has it as its Source")
        elif promise.kind in TESTED_KINDS and place not in books.checks:
            implemented = ", ".join(tag.symbol for tag in books.sources[place])
            books.problems.append(f"{where} ({promise.kind}) is implemented by {implemented}, but no test Checks it")
    return books


def read_promises(path: Path) -> tuple[dict[str, str], list[Promise], list[str]]:
    """The papers' titles, the promised places, and what is wrong with the list."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    titles, promises, problems = {}, [], []
    for paper, entry in tomllib.loads(text).items():
        titles[paper] = f"{entry['authors']}: {entry['title']}. {entry['venue']}, {entry['year']}"
        start = next(n for n, line in enumerate(lines) if line in (f"[{paper}]", f'["{paper}"]'))
        for place, kind in entry.get("places", {}).items():
            line = next(n for n in range(start, len(lines)) if lines[n].startswith(f'"{place}" ')) + 1
            if kind not in KINDS:
                problems.append(f"{path.name}:{line}: {kind!r} is no kind of place; the kinds are {', '.join(KINDS)}")
            if "," in place:
                problems.append(f"{path.name}:{line}: a place's name holds no comma, since commas part places in tags")
            promises.append(Promise(paper, place, kind, line))
    return titles, promises, problems


def python_files(root: Path) -> Iterator[tuple[Path, bool]]:
    """The Python files that may carry tags, each with whether it is a test."""
    for pattern in ("packages/*/src/**/*.py", "packages/*/tests/**/*.py", "reproductions/**/*.py", "tests/**/*.py"):
        for path in sorted(root.glob(pattern)):
            yield path, "tests" in path.relative_to(root).parts


def read_tags(root: Path, path: Path, *, in_test: bool) -> Iterator[Tag]:
    """The tags in the docstrings of a module, its classes and its functions, in the order of the file."""
    module = ".".join(_module_parts(path.relative_to(root)))
    for name, docstring, start in docstrings(ast.parse(path.read_text(encoding="utf-8")), module):
        kind, text, line = "", "", 0
        for number, written in enumerate([*docstring.splitlines(), ""], start):
            match = TAG.fullmatch(written)
            if match or not written.strip():
                if kind:
                    yield Tag(kind, text, name, path.relative_to(root), line, in_test)
                kind, text, line = (match[1], match[2].strip(), number) if match else ("", "", 0)
            elif kind:
                text = f"{text} {written.strip()}"


def docstrings(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str
) -> Iterator[tuple[str, str, int]]:
    """Every docstring below `node`: the dotted name of what it describes, the text, and its first line."""
    match node.body:
        case [ast.Expr(value=ast.Constant(value=str(docstring), lineno=start)), *_]:
            yield name, docstring, start
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from docstrings(child, f"{name}.{child.name}")


def enter(books: Books, tag: Tag) -> None:
    """Enters one tag into the books; what cannot be entered is a problem."""
    where = f"{tag.path}:{tag.line}: {tag.symbol}"
    if not tag.text:
        books.problems.append(f"{where}: `{tag.kind}:` says nothing")
    elif tag.kind == "Source" and tag.in_test:
        books.problems.append(f"{where}: a test has `Checks:`, not `Source:`")
    elif tag.kind == "Checks" and not tag.in_test:
        books.problems.append(f"{where}: `Checks:` belongs to tests; code has `Source:`")
    elif tag.kind in ("Source", "Checks"):
        entries = books.sources if tag.kind == "Source" else books.checks
        for place in places_named(tag.text, list(books.titles)):
            if place in books.promises:
                entries.setdefault(place, []).append(tag)
            elif place[0]:
                books.problems.append(f"{where}: {tag.kind} {' '.join(place)!r} is not promised in papers.toml")
            else:
                books.problems.append(f"{where}: {tag.kind} {place[1]!r} begins with no paper of papers.toml")


def places_named(text: str, papers: Sequence[str]) -> list[Place]:
    """The places in a list such as `DDPM Eq. 4, Eq. 7, LDM U-Net`: a paper is said once for all that follow it."""
    places, current = [], ""
    for part in text.rstrip(".").split(","):
        name = " ".join(part.split())
        paper = max((paper for paper in papers if name.startswith(f"{paper} ")), key=len, default="")
        current = paper or current
        places.append((current, name.removeprefix(f"{paper} ")))
    return places


def table(books: Books) -> str:
    """The Markdown table of every promised place: who implements it, and what checks it."""
    parts = ["# From paper to code to test\n", NOTICE]
    for paper, title in books.titles.items():
        parts += [f"## {paper}\n", f"{title}.\n", "| place | kind | implemented by | checked by |\n|---|---|---|---|"]
        for place, promise in books.promises.items():
            if promise.paper == paper:
                cells = (promise.place, promise.kind, _links(books.sources, place), _links(books.checks, place))
                parts.append(f"| {' | '.join(cells)} |")
        parts[-1] += "\n"
    return "\n".join(parts)


def deviations(books: Books) -> str:
    """The Markdown list of where this code differs from the papers, and of what the papers leave open."""
    parts = ["# Where we differ, and what the papers leave open\n", NOTICE]
    for package in sorted({_package(tag) for tag in books.tags if tag.kind in ("Deviation", "Unstated")}):
        parts.append(f"## {package}\n")
        for kind in ("Deviation", "Unstated"):
            lines = [
                f"* `{tag.symbol.removeprefix(package + '.')}`: {tag.text}"
                for tag in books.tags
                if tag.kind == kind and _package(tag) == package
            ]
            parts += [f"### {kind}\n", "\n".join(lines) + "\n"] if lines else []
    return "\n".join(parts)


def summary(books: Books) -> str:
    """The README's block: a line per paper, with how many of its promised places are implemented and checked."""
    lines = ["| paper | places | implemented | checked by tests |", "|---|---:|---:|---:|"]
    for paper in books.titles:
        places = [place for place in books.promises if place[0] == paper]
        counts = (len(places), sum(p in books.sources for p in places), sum(p in books.checks for p in places))
        lines.append(f"| {paper} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines) + "\n"


def written(root: Path, books: Books) -> dict[Path, str]:
    """Every generated file with the text it should have."""
    files = {root / "docs/traceability.md": table(books), root / "docs/deviations.md": deviations(books)}
    readme = root / "README.md"
    if readme.is_file():
        text = readme.read_text(encoding="utf-8")
        files[readme] = SUMMARY.sub(lambda found: found[1] + summary(books) + found[2], text)
    return files


def main(arguments: Sequence[str] | None = None) -> int:
    """Verifies, and with `--write` renews the generated files; returns the exit status."""
    parser = argparse.ArgumentParser(description="Hold the code and the tests to papers.toml.")
    parser.add_argument("--write", action="store_true", help="write the generated tables")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent, help="of the repository")
    options = parser.parse_args(arguments)
    books = read_books(options.root)
    problems = list(books.problems)
    for path, text in written(options.root, books).items():
        if options.write:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            problems.append(f"{path.relative_to(options.root)} is out of date: run `nox -s traceability -- --write`")
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    counts = f"{len(books.promises)} places promised, {len(books.sources)} implemented, {len(books.checks)} checked"
    print(f"{counts}; {len(problems)} problems")
    return 1 if problems else 0


def _module_parts(path: Path) -> list[str]:
    parts = list(path.with_suffix("").parts)
    if "src" in parts:
        parts = parts[parts.index("src") + 1 :]
    elif "tests" in parts:
        parts = parts[-1:]
    return parts[:-1] if parts[-1] == "__init__" else parts


def _package(tag: Tag) -> str:
    return tag.symbol.split(".")[0]


def _links(entries: dict[Place, list[Tag]], place: Place) -> str:
    return "<br>".join(f"[`{tag.symbol}`](../{tag.path.as_posix()})" for tag in entries.get(place, []))


if __name__ == "__main__":
    raise SystemExit(main())

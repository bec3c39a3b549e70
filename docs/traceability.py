"""Double-entry books between the papers and this code.

`papers.toml` promises places: sections, equations, algorithms, tables, figures. Docstrings answer with tags:
`Source:` in code implements a place, `Checks:` in a test holds it to an oracle, `Deviation:` says where we differ from
the paper and `Unstated:` what the paper leaves open. A tag runs to the next tag, blank line or end of its docstring.
A choice ends with what changes it, in brackets: a parameter of what is described, any `Class.field`, or `[fixed]`.

    python docs/traceability.py            verify, and fail where a promise is broken or a page is out of date
    python docs/traceability.py --write    the same, and write the pages in docs/ and the README's summary

Standard library only, so that it runs wherever Python does.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from books import Books, Place, Promise, Tag, by_package, module_parts, read_books

SUMMARY = re.compile(r"(<!-- traceability -->\n).*?(<!-- /?traceability -->)", re.DOTALL)
NOTICE = "<!-- Written by `nox -s traceability -- --write` from the docstrings; edit those. -->\n"
PAPERS, DEVIATIONS, UNSTATED = Path("docs/papers"), Path("docs/deviations.md"), Path("docs/unstated.md")
OVERVIEW = Path("docs/traceability.md")


def overview(books: Books) -> str:
    """The Markdown page that leads to a page for each paper."""
    lines = ["| paper | places | implemented | checked by tests | left out |", "|---|---:|---:|---:|---:|"]
    for paper, title in books.titles.items():
        left_out = sum(place[0] == paper for place in books.left_out)
        counts = " | ".join(map(str, [*_counts(books, paper), left_out or ""]))
        lines.append(f"| [{paper}](papers/{_slug(paper)}.md): {_title(title)} | {counts} |")
    return "\n".join(
        [
            "# From paper to code to test\n",
            NOTICE,
            "A place is a section, an equation, an algorithm, a table or a figure. Each one in `papers.toml` is "
            "implemented by code that names it, and every equation and algorithm is held to an oracle by a test that "
            "does. What is left out is listed with the reason. [Where we differ](deviations.md), and [what the papers "
            "leave open](unstated.md), have pages of their own.\n",
            *lines,
            "",
            "```{toctree}\n:hidden:\n:glob:\n\npapers/*\n```\n",
        ]
    )


def paper_page(books: Books, paper: str) -> str:
    """The Markdown page of a paper: each place with its package, symbols, tests and results, and what is left out."""
    page = PAPERS / f"{_slug(paper)}.md"
    parts = [f"# {paper}\n", NOTICE, f"{books.titles[paper]}.\n"]
    rows = [
        row
        for place, promise in books.promises.items()
        if promise.paper == paper
        for row in _rows(books, place, promise, page)
    ]
    if rows:
        parts += ["| place | package | code | held by the tests that | result |\n|---|---|---|---|---|", *rows, ""]
    left_out = [f"* **{place}**: {why}" for (owner, place), why in books.left_out.items() if owner == paper]
    if left_out:
        parts += ["## Left out\n", *left_out, ""]
    return "\n".join(parts)


def deviations(books: Books) -> str:
    """The Markdown list of where this code differs from the papers."""
    parts = ["# Where we differ from the papers\n", NOTICE]
    parts += ["Behind the arrow stands what changes it; where there is none, it is fixed.\n"]
    for package, tags in _choices(books, "Deviation"):
        parts.append(f"## {package}\n")
        parts += [f"* {_link(tag, DEVIATIONS)}: {tag.words.rstrip('.')}.{_arrow(tag)}" for tag in tags]
        parts.append("")
    return "\n".join(parts)


def unstated(books: Books) -> str:
    """The Markdown tables of what the papers leave open: what is done here, and what changes it."""
    parts = ["# What the papers leave open\n", NOTICE]
    for package, tags in _choices(books, "Unstated"):
        parts.append(f"## {package}\n\n| left open | here | changed by | code |\n|---|---|---|---|")
        for tag in tags:
            what, _, choice = tag.words.rstrip(".").partition("; ")
            options = "fixed" if tag.options == ["fixed"] else ", ".join(f"`{option}`" for option in tag.options)
            parts.append(f"| {_cell(what)} | {_cell(choice)} | {options} | {_link(tag, UNSTATED)} |")
        parts.append("")
    return "\n".join(parts)


def summary(books: Books) -> str:
    """The README's block: a line per paper, with how many of its promised places are implemented and checked."""
    lines = ["| paper | places | implemented | checked by tests |", "|---|---:|---:|---:|"]
    lines += [f"| {paper} | {' | '.join(map(str, _counts(books, paper)))} |" for paper in books.titles]
    return "\n".join(lines) + "\n"


def written(root: Path, books: Books) -> dict[Path, str]:
    """Every generated file with the text it should have."""
    files = {OVERVIEW: overview(books), DEVIATIONS: deviations(books), UNSTATED: unstated(books)}
    files |= {PAPERS / f"{_slug(paper)}.md": paper_page(books, paper) for paper in books.titles}
    texts = {root / path: text for path, text in files.items()}
    readme = root / "README.md"
    if readme.is_file():
        text = readme.read_text(encoding="utf-8")
        texts[readme] = SUMMARY.sub(lambda found: found[1] + summary(books) + found[2], text)
    return texts


def main(arguments: Sequence[str] | None = None) -> int:
    """Verifies, and with `--write` renews the generated files; returns the exit status."""
    parser = argparse.ArgumentParser(description="Hold the code and the tests to papers.toml.")
    parser.add_argument("--write", action="store_true", help="write the generated pages")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent, help="of the repository")
    options = parser.parse_args(arguments)
    books = read_books(options.root)
    problems = list(books.problems)
    texts = written(options.root, books)
    for path in set((options.root / PAPERS).glob("*.md")) - set(texts):
        if options.write:
            path.unlink()
        else:
            problems.append(f"{path.relative_to(options.root)} is of no paper: run `nox -s traceability -- --write`")
    for path, text in texts.items():
        if options.write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            problems.append(f"{path.relative_to(options.root)} is out of date: run `nox -s traceability -- --write`")
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    counts = f"{len(books.promises)} places promised, {len(books.sources)} implemented, {len(books.checks)} checked"
    print(f"{counts}, {len(books.left_out)} left out; {len(problems)} problems")
    return 1 if problems else 0


def _rows(books: Books, place: Place, promise: Promise, page: Path) -> Iterator[str]:
    sources, checks = by_package(books.sources.get(place, [])), books.checks.get(place, [])
    for number, (package, tags) in enumerate(sources.items()):
        own = [tag for tag in checks if _distribution(tag) == _distribution(tags[0])]
        others = [
            tag for tag in checks if not any(_distribution(tag) == _distribution(of[0]) for of in sources.values())
        ]
        tests = [_link(tag, page, _phrase(tag)) for tag in [*own, *(others if number == 0 else [])]]
        results = [] if number else [_file(path, page) for path in books.results.get(place, [])]
        name = f"{promise.place}<br>*{promise.kind}*" if number == 0 else ""
        code = "<br>".join(_link(tag, page) for tag in tags)
        yield f"| {name} | {package} | {code} | {';<br>'.join(tests)} | {'<br>'.join(results)} |"


def _distribution(tag: Tag) -> str:
    """The folder that holds both a package's code and its tests."""
    return "/".join(tag.path.parts[: 2 if tag.path.parts[0] == "packages" else 1])


def _phrase(tag: Tag) -> str:
    return tag.symbol.split(".")[-1].removeprefix("test_").replace("_", " ")


def _link(tag: Tag, page: Path, text: str | None = None) -> str:
    inside = tag.symbol.removeprefix(".".join(module_parts(tag.path))).removeprefix(".")
    target = os.path.relpath(tag.path, page.parent) + (f"#{inside}" if inside else "")
    return f"[{text or f'`{inside or tag.name}`'}]({target})"


def _file(path: Path, page: Path) -> str:
    return f"[{path.stem}]({os.path.relpath(path, page.parent)})"


def _choices(books: Books, kind: str) -> list[tuple[str, list[Tag]]]:
    return sorted(by_package([tag for tag in books.tags if tag.kind == kind]).items())


def _arrow(tag: Tag) -> str:
    return f" → {', '.join(f'`{option}`' for option in tag.options)}" if set(tag.options) - {"fixed"} else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _counts(books: Books, paper: str) -> tuple[int, int, int]:
    places = [place for place in books.promises if place[0] == paper]
    return len(places), sum(place in books.sources for place in places), sum(place in books.checks for place in places)


def _title(text: str) -> str:
    return text.split(": ", 1)[1].rsplit(". ", 1)[0]


def _slug(paper: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", paper.lower()).strip("-")


if __name__ == "__main__":
    raise SystemExit(main())

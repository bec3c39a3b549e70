"""The entries of the books between the papers and this code: what is promised, what docstrings answer, what is wrong.

Standard library only, so that it runs wherever Python does. `docs/traceability.py` is the command.
"""

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

KINDS = ("section", "equation", "algorithm", "table", "figure")
TESTED_KINDS = ("equation", "algorithm")
CHOICES = ("Deviation", "Unstated")
FIXED = "fixed"
TAG = re.compile(r"\s*(Source|Checks|Deviation|Unstated):(.*)")
OPTIONS = re.compile(r"\s*\[([^\[\]]+)\]\.?$")

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

    @property
    def package(self) -> str:
        """The package that the symbol belongs to, or its file of tests."""
        return self.symbol.split(".")[0]

    @property
    def name(self) -> str:
        """The symbol within its package."""
        return self.symbol.removeprefix(f"{self.package}.")

    @property
    def words(self) -> str:
        """The text without the options in brackets at its end."""
        return OPTIONS.sub("", self.text)

    @property
    def options(self) -> list[str]:
        """The names in brackets at the end of the text: what changes the choice that it tells of."""
        found = OPTIONS.search(self.text)
        return [option.strip() for option in found[1].split(",")] if found else []


@dataclass
class Books:
    """The promises, who implements and who checks each of them, and all that is wrong with the entries."""

    titles: dict[str, str]
    promises: dict[Place, Promise]
    tags: list[Tag]
    left_out: dict[Place, str] = field(default_factory=dict)
    results: dict[Place, list[Path]] = field(default_factory=dict)
    sources: dict[Place, list[Tag]] = field(default_factory=dict)
    checks: dict[Place, list[Tag]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_books(root: Path) -> Books:
    """Reads `papers.toml` and every docstring below `root`, and balances the two."""
    books = read_promises(root)
    known: set[str] = set()
    for path, in_test in python_files(root):
        module = ast.parse(path.read_text(encoding="utf-8"))
        books.tags += read_tags(module, path.relative_to(root), in_test=in_test)
        known |= set() if in_test else set(names(module, ""))
    for tag in books.tags:
        enter(books, tag)
        books.problems += unknown_options(tag, known)
    balance(books)
    return books


def read_promises(root: Path) -> Books:
    """The papers' titles, the promised places, those left out, the results, and what is wrong with the lists."""
    path = root / "papers.toml"
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    books = Books({}, {}, [])
    for paper, entry in tomllib.loads(text).items():
        books.titles[paper] = f"{entry['authors']}: {entry['title']}. {entry['venue']}, {entry['year']}"
        start = next(n for n, line in enumerate(lines) if line in (f"[{paper}]", f'["{paper}"]'))
        for place, kind in entry.get("places", {}).items():
            line = next(n for n in range(start, len(lines)) if lines[n].startswith(f'"{place}" ')) + 1
            if kind not in KINDS:
                books.problems.append(f"{path.name}:{line}: {kind!r} is no kind of place; they are {', '.join(KINDS)}")
            if "," in place:
                books.problems.append(f"{path.name}:{line}: a place's name holds no comma: commas part places in tags")
            books.promises[paper, place] = Promise(paper, place, kind, line)
        books.left_out |= {(paper, place): why for place, why in entry.get("left_out", {}).items()}
        for place, files in entry.get("results", {}).items():
            books.results[paper, place] = [Path(file) for file in files]
            missing = [file for file in files if not (root / file).is_file()]
            books.problems += [f"{path.name}: {paper} {place}: the result {file} is no file" for file in missing]
    return books


def balance(books: Books) -> None:
    """Enters as problems the promises that are not kept, and what is said of places that are not promised."""
    for place, promise in books.promises.items():
        where = f"papers.toml:{promise.line}: {promise.paper} {promise.place}"
        if place not in books.sources:
            books.problems.append(f"{where} is promised, but no docstring has it as its Source")
        elif promise.kind in TESTED_KINDS and place not in books.checks:
            implemented = ", ".join(tag.symbol for tag in books.sources[place])
            books.problems.append(f"{where} ({promise.kind}) is implemented by {implemented}, but no test Checks it")
    for place in books.left_out:
        if place in books.promises:
            books.problems.append(f"papers.toml: {' '.join(place)} is both promised and left out")
    for place in books.results:
        if place not in books.promises:
            books.problems.append(f"papers.toml: {' '.join(place)} has results, but is not promised")


def python_files(root: Path) -> Iterator[tuple[Path, bool]]:
    """The Python files that may carry tags, each with whether it is a test."""
    for pattern in ("packages/*/src/**/*.py", "packages/*/tests/**/*.py", "reproductions/**/*.py", "tests/**/*.py"):
        for path in sorted(root.glob(pattern)):
            yield path, "tests" in path.relative_to(root).parts


def read_tags(module: ast.Module, path: Path, *, in_test: bool) -> Iterator[Tag]:
    """The tags in the docstrings of a module, its classes and its functions, in the order of the file."""
    for name, docstring, start in docstrings(module, ".".join(module_parts(path))):
        kind, text, line = "", "", 0
        for number, written in enumerate([*docstring.splitlines(), ""], start):
            match = TAG.fullmatch(written)
            if match or not written.strip():
                if kind:
                    yield Tag(kind, text, name, path, line, in_test)
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


def names(node: ast.AST, inside: str) -> Iterator[str]:
    """What can be given or called below `node`: classes, functions, and their fields, methods and parameters."""
    for child in getattr(node, "body", []):
        if isinstance(child, ast.ClassDef):
            yield f"{inside}{child.name}"
            yield from names(child, f"{inside}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            owner = inside if child.name == "__init__" else f"{inside}{child.name}."
            yield f"{inside}{child.name}"
            arguments = child.args
            yield from (f"{owner}{each.arg}" for each in [*arguments.args, *arguments.kwonlyargs])
        elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            yield f"{inside}{child.target.id}"
        elif isinstance(child, ast.Assign):
            yield from (f"{inside}{target.id}" for target in child.targets if isinstance(target, ast.Name))


def unknown_options(tag: Tag, known: set[str]) -> Iterator[str]:
    """What is wrong with the options of a choice: none are named, or none are called so."""
    where = f"{tag.path}:{tag.line}: {tag.symbol}"
    if tag.kind not in CHOICES:
        return
    if tag.kind == "Unstated" and not tag.options and tag.path.parts[0] == "packages":
        yield f"{where}: end `Unstated:` with what changes the choice: [parameter], [Class.field] or [{FIXED}]"
    owners = [".".join(tag.symbol.split(".")[-depth:]) for depth in (1, 2)] + [".".join(tag.symbol.split(".")[-2:-1])]
    for option in tag.options:
        if option != FIXED and option not in known and not any(f"{owner}.{option}" in known for owner in owners):
            yield f"{where}: [{option}] is no parameter of it, nor anything else that this code defines"


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
            elif place in books.left_out:
                books.problems.append(f"{where}: {' '.join(place)} is left out in papers.toml; move it to the places")
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


def by_package(tags: Sequence[Tag]) -> Mapping[str, list[Tag]]:
    """Tags by package, in the order in which the packages come."""
    found: dict[str, list[Tag]] = {}
    for tag in tags:
        found.setdefault(tag.package, []).append(tag)
    return found


def module_parts(path: Path) -> list[str]:
    """The dotted name of a module, as it is imported; of a test, that of its file."""
    parts = list(path.with_suffix("").parts)
    if "src" in parts:
        parts = parts[parts.index("src") + 1 :]
    elif "tests" in parts:
        parts = parts[-1:]
    return parts[:-1] if parts[-1] == "__init__" else parts

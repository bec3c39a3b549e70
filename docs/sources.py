"""Pages of the site for files of the repository, so that a link to one leads to its lines, without a network."""

import ast
import html
import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from sphinx import addnodes
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\((?P<path>(?:\.\./)+[^)#\s]+)(?:#(?P<part>[^)\s]*))?\)")
SCHEME = "file-of-the-repository:"
FOLDER = "source"
PAGES = {"README.md": "index", "CONTRIBUTING.md": "contributing", "reproductions/results/README.md": "results"}
TEXT = {".py", ".toml", ".json", ".md", ".txt", ".yml", ".cff", ".jinja", ""}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{path}</title>
<link rel="stylesheet" href="{up}_static/pygments.css"><link rel="stylesheet" href="{up}_static/source.css">
</head>
<body>
<p><a href="{up}index.html">{project}</a> / {path}</p>
<div class="highlight"><pre>{listing}</pre></div>
</body>
</html>
"""


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", mark_links)
    app.connect("doctree-read", from_readmes)
    app.connect("doctree-resolved", lead_to_pages)


def mark_links(app: Sphinx, docname: str, source: list[str]) -> None:
    """Gives links out of the folder of the site a scheme, under which they keep the part behind the `#`."""
    here = Path(app.env.doc2path(docname)).parent

    def marked(found: re.Match[str]) -> str:
        path = Path(os.path.normpath(here / found["path"]))
        if not path.is_relative_to(ROOT) or path.is_relative_to(app.srcdir) or path.suffix not in TEXT:
            return found[0]  # pages and pictures, which Sphinx finds by itself
        return f"]({SCHEME}{path.relative_to(ROOT).as_posix()}#{found['part'] or ''})"

    source[0] = LINK.sub(marked, source[0])


def from_readmes(app: Sphinx, doctree: nodes.document) -> None:
    """Gives the same scheme to links of a README that a page includes: they are meant from the README's folder."""
    page = posixpath.basename(app.env.docname)
    folders = [ROOT, ROOT / "packages" / page.replace("diffusion_evaluation", "evaluation")]
    for node in list(doctree.findall(addnodes.pending_xref)):
        path, _, part = unquote(node["reftarget"]).partition("#")
        for folder in folders if node["reftype"] == "myst" and node["refdomain"] != "doc" and path else []:
            target = Path(os.path.normpath(folder / path))
            if target.is_relative_to(ROOT) and target.is_file():
                refuri = f"{SCHEME}{target.relative_to(ROOT).as_posix()}#{part}"
                node.replace_self(nodes.reference("", "", *node.children, refuri=refuri))
                break


def lead_to_pages(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replaces the scheme by the address of a page of this site."""
    for node in doctree.findall(nodes.reference):
        if node.get("refuri", "").startswith(SCHEME):
            path, _, part = node["refuri"].removeprefix(SCHEME).partition("#")
            page = page_of(path, app.env.found_docs)
            node["refuri"] = app.builder.get_relative_uri(docname, page) + (part and f"#{part}")
            node["internal"] = True


def page_of(path: str, pages: Iterable[str]) -> str:
    """The page that shows a file: its own page of the site where it has one, else one with its text."""
    own = PAGES.get(path) or path.removeprefix("docs/").removesuffix(".md")
    package = re.fullmatch(r"packages/(\w+)/README\.md", path)
    own = f"packages/{package[1].replace('evaluation', 'diffusion_evaluation')}" if package else own
    return own if path.endswith(".md") and own in pages else f"{FOLDER}/{path}"


def write(site: Path, wanted: Iterable[Path], project: str) -> None:
    """Writes those of the pages `wanted` that show a file of the repository, where they are missing or out of date."""
    for page in wanted:
        if page.is_relative_to(site / FOLDER) and page.suffix == ".html":
            path = page.relative_to(site / FOLDER).with_suffix("")
            file = ROOT / path
            if file.is_file() and not (page.is_file() and page.stat().st_mtime > file.stat().st_mtime):
                page.parent.mkdir(parents=True, exist_ok=True)
                up = "../" * len(path.parts)
                text = PAGE.format(
                    up=up, path=html.escape(str(path)), project=html.escape(project), listing=listing(file)
                )
                page.write_text(text, encoding="utf-8")


def listing(path: Path) -> str:
    """The lines of a file, highlighted and numbered, with an anchor for each line and for each symbol."""
    text = path.read_text(encoding="utf-8")
    lexer = get_lexer_for_filename(path.name) if path.suffix in (".py", ".toml", ".json", ".yml") else TextLexer()
    lines = highlight(text, lexer, HtmlFormatter(nowrap=True)).splitlines()
    names = {line: name for name, line in symbols(ast.parse(text), "")} if path.suffix == ".py" else {}
    width = len(str(len(lines)))
    return "\n".join(
        (f'<span id="{names[number]}"></span>' if number in names else "")
        + f'<span id="L{number}" class="linenos">{number:>{width}} </span>{line}'
        for number, line in enumerate(lines, 1)
    )


def symbols(node: ast.AST, inside: str) -> Iterator[tuple[str, int]]:
    """The qualified name of every class and function, with its first line."""
    for child in getattr(node, "body", []):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{inside}{child.name}", child.lineno
            yield from symbols(child, f"{inside}{child.name}.")

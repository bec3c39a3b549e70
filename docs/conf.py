"""The documentation site: pages with cells that are run, READMEs, books written from docstrings, and docstrings."""

import importlib
import inspect
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import SphinxError

sys.path.insert(0, str(Path(__file__).parent))

import links
import sources
from docstrings import restructured

project = "ConPreDiff, reproduced"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.linkcode", "sphinx-mathjax-offline"]
myst_enable_extensions = ["dollarmath"]
myst_url_schemes = ["http", "https", "mailto", sources.SCHEME.rstrip(":")]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 900  # a cell takes seconds; a machine that does much else may take minutes
nb_merge_streams = True
html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
highlight_language = "none"
html_show_sphinx = False
html_copy_source = False
exclude_patterns = ["_build"]
autodoc_default_options = {"members": True, "imported-members": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
maximum_signature_line_length = 80
python_use_unqualified_type_names = True
python_display_short_literal_types = True
suppress_warnings = ["myst.header"]  # a README below a heading of its page begins with one of its own


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """The page of a symbol's source, from the pages of the reference."""
    found = importlib.import_module(info["module"])
    for part in info["fullname"].split("."):
        found = getattr(found, part, None)
    try:
        path = Path(inspect.getsourcefile(inspect.unwrap(found))).relative_to(sources.ROOT).as_posix()
    except (TypeError, ValueError):  # a value, or a thing of another library
        return None
    return f"../{sources.FOLDER}/{path}.html#{inspect.unwrap(found).__qualname__}"


def readable(app: Sphinx, what: str, name: str, found: object, options: object, lines: list[str]) -> None:
    """Shows a docstring with its formulas, sections and tags."""
    lines[:] = restructured(lines)


def finish(app: Sphinx, failure: Exception | None) -> None:
    """Writes the pages of files that are linked to, and ends the build where a link leads nowhere."""
    if failure is None and app.builder.format == "html":
        site = Path(app.outdir).resolve()
        sources.write(site, {link[1] for page in links.read(site).values() for link in page.links}, project)
        found = list(links.broken(site))
        if found:
            raise SphinxError("\n".join(["broken links:", *found]))


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    sources.setup(app)
    app.connect("autodoc-process-docstring", readable)
    app.connect("build-finished", finish)

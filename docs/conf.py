"""The documentation site: the READMEs, the tables written from docstrings, and the docstrings as they stand."""

from sphinx.application import Sphinx

project = "ConPreDiff, reproduced"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx-mathjax-offline"]
myst_enable_extensions = ["dollarmath"]
html_theme = "furo"
exclude_patterns = ["_build"]
autodoc_default_options = {"members": True, "imported-members": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False
autodoc_typehints = "none"
suppress_warnings = ["myst.header", "myst.xref_missing"]  # READMEs link to files, which are no pages of the site


def verbatim(app: Sphinx, what: str, name: str, found: object, options: object, lines: list[str]) -> None:
    """Shows a docstring as it is written: plain text with formulas and tags, not reStructuredText."""
    if any(lines):
        lines[:] = ["::", "", *(f"    {line}" for line in lines), ""]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", verbatim)

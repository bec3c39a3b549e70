"""Code blocks of a README are tests (`pytest --markdown-docs`); those in Python files are not."""

from pathlib import Path

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path):
    collectors = yield
    return [found for found in collectors if type(found).__name__ != "MarkdownDocstringCodeModule"]

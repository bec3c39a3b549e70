"""The project's own papers say what is so: the citation, the issue forms, the hooks, the security page."""

import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "workshop"))
citation = importlib.import_module("citation")

PAPERS = tomllib.loads((ROOT / "papers.toml").read_text())
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
FIELDS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}


def test_the_citation_has_every_paper_that_is_implemented() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    found = {
        (each["title"], each["year"], ", ".join(author["family-names"] for author in each["authors"]))
        for each in cited["references"]
    }
    missing = {(paper["title"], paper["year"], paper["authors"]) for paper in PAPERS.values()} - found
    assert not missing, "python workshop/citation.py --write"
    assert cited["cff-version"] == "1.2.0"
    assert cited["license"] == "Apache-2.0"
    assert {"message", "title", "authors"} <= cited.keys()


def test_references_are_written_below_what_stands_above_them() -> None:
    paper = {"title": "On: Colons", "authors": "van Breugel, Lee", "year": 2020, "venue": "arXiv 2001.1"}
    text = citation.with_references("title: kept\nreferences:\n  - gone\n", {"x": paper})
    assert yaml.safe_load(text) == {
        "title": "kept",
        "references": [
            {
                "type": "article",
                "title": "On: Colons",
                "authors": [{"family-names": "van Breugel"}, {"family-names": "Lee"}],
                "year": 2020,
                "journal": "arXiv 2001.1",
            }
        ],
    }


def test_authors_of_one_name_are_told_apart() -> None:
    twins = {"title": "On", "authors": "Lee, Lee", "year": 2020, "venue": "ICML"}
    with pytest.raises(ValueError, match="x has several authors of one name: add its GIVEN_NAMES"):
        citation.with_references("references:\n", {"x": twins})


@pytest.mark.parametrize("path", [path for path in FORMS if path.stem != "config"], ids=lambda path: path.stem)
def test_issue_forms_are_whole(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    assert {"name", "description", "body"} <= form.keys()
    names = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert len(names) == len(set(names))
    assert all(field["type"] in FIELDS and field["attributes"]["label"] for field in form["body"])


def test_the_bug_form_offers_every_package() -> None:
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text())
    (where,) = (field["attributes"]["options"] for field in form["body"] if field["type"] == "dropdown")
    projects = [tomllib.loads(path.read_text())["project"]["name"] for path in ROOT.glob("packages/*/pyproject.toml")]
    assert set(projects) <= set(where)


def test_hooks_run_what_exists() -> None:
    settings = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in settings["repos"] for hook in repository["hooks"]]
    assert hooks
    for hook in hooks:
        command = hook["entry"].split()
        assert (command[0] == "nox" and f"def {command[2]}(" in (ROOT / "noxfile.py").read_text()) or (
            command[0] == "python" and (ROOT / command[1]).is_file()
        )
        re.compile(hook.get("files", ""))


def test_pages_name_files_that_exist() -> None:
    for page in ("SECURITY.md", "CONTRIBUTING.md"):
        named = re.findall(r"`((?:tests|workshop|docs|packages|reproductions)/[\w./-]+)`", (ROOT / page).read_text())
        assert named, page
        assert not [name for name in named if not (ROOT / name).exists()], page

"""What all packages have in common, and what none of them may do."""

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
IMPORT_NAMES = sorted(path.parent.name for path in ROOT.glob("packages/*/src/*/__init__.py"))
SOURCES = sorted([*ROOT.glob("packages/*/src/**/*.py"), *ROOT.glob("reproductions/**/*.py")])
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())

IMPORTING = """
import json, sys, time, torch
seconds = {}
for name in sys.argv[1:]:
    start = time.process_time()
    __import__(name)
    seconds[name] = time.process_time() - start
print(json.dumps({"seconds": seconds, "modules": sorted(sys.modules)}))
"""


def project(package: Path) -> dict:
    return tomllib.loads((package / "pyproject.toml").read_text())


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_projects_differ_only_in_name_description_dependencies_and_version() -> None:
    free = {"name", "description", "dependencies", "optional-dependencies", "version"}
    templates = []
    for package in PACKAGES:
        read = project(package)
        read["project"] = {key: value for key, value in read["project"].items() if key not in free}
        (source,) = read["tool"]["hatch"]["build"]["targets"]["wheel"].pop("packages")
        assert (package / source / "py.typed").is_file(), f"{package.name} tells type checkers nothing: no py.typed"
        templates.append(read)
    assert all(template == templates[0] for template in templates)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_package_has_the_same_papers(package: Path) -> None:
    assert (package / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert (package / "README.md").read_text().startswith(f"# {project(package)['project']['name']}\n")
    assert project(package)["project"]["version"] in (package / "CHANGELOG.md").read_text()
    assert list((package / "tests").glob("test_*.py"))


def test_requirements_are_floors_without_ceilings() -> None:
    requirements = [item for package in PACKAGES for item in project(package)["project"]["dependencies"]]
    assert all(">=" in item and not set("<~=!") & set(item.replace(">=", "")) for item in requirements), requirements


def test_the_root_names_every_package() -> None:
    distributions = sorted(project(package)["project"]["name"] for package in PACKAGES)
    assert sorted(SETTINGS["tool"]["uv"]["sources"]) == distributions
    assert SETTINGS["tool"]["importlinter"]["root_packages"] == sorted([*IMPORT_NAMES, "reproductions"])
    protected = [
        c["protected_modules"] for c in SETTINGS["tool"]["importlinter"]["contracts"] if "protected" in c["type"]
    ]
    assert sorted(protected) == [[name] for name in IMPORT_NAMES]
    (checked,) = (option for option in SETTINGS["tool"]["pytest"]["addopts"] if "jaxtyping" in option)
    assert checked == f"--jaxtyping-packages={','.join(IMPORT_NAMES)},beartype.beartype"


def test_importing_a_package_is_quick_and_brings_no_image_library() -> None:
    ran = subprocess.run([sys.executable, "-c", IMPORTING, *IMPORT_NAMES], capture_output=True, text=True, check=True)
    found = json.loads(ran.stdout)
    assert max(found["seconds"].values()) < 2.0, f"CPU seconds beyond torch: {found['seconds']}"
    assert not {"torchvision", "matplotlib", "PIL", "datasets", "accelerate"} & set(found["modules"])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sources_keep_clear_of_traps(path: Path) -> None:
    assert path.stem not in {"utils", "util", "common", "helpers", "misc", "base"}, "a name that says nothing"
    for name, call in calls(path):
        where = f"{path.relative_to(ROOT)}:{call.lineno}: {name}"
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert not name.endswith(".cuda"), f"{where}: take the device from a tensor or an argument"
        assert name != "torch.load" or options.get("weights_only") == "True", f"{where}: unpickles"
        assert name.split(".")[0] not in {"pickle", "dill", "joblib", "cloudpickle"}, f"{where}: pickles"
        assert options.get("allow_pickle") != "True", f"{where}: unpickles"

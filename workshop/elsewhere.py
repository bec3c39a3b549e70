"""A project of somebody else's, outside this clone, that depends on one package by name.

    python workshop/elsewhere.py PACKAGE_FOLDER PROJECT_FOLDER

Writes `pyproject.toml`, the package's sample (`workshop/samples/`) as `use.py`, and `dist/` with the package's wheel.
"""

import argparse
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

SAMPLES = Path(__file__).resolve().parent / "samples"


def write_project(package: Path, project: Path) -> None:
    """Write a project that depends on `package` by name and uses it in the lines of its sample.

    Raises:
        FileNotFoundError: the package has no sample.
    """
    sample = SAMPLES / f"{package.name}.py"
    if not sample.is_file():
        raise FileNotFoundError(f"{sample} is missing: show {package.name} at work there, in some twenty lines")
    declared = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    settings = f"""[project]
name = "somebody-elses"
version = "1"
requires-python = "{declared["requires-python"]}"
dependencies = ["{declared["name"]}=={declared["version"]}"]
"""
    project.mkdir(parents=True, exist_ok=True)
    (project / "pyproject.toml").write_text(settings)
    shutil.copyfile(sample, project / "use.py")


def build_wheel(package: Path, project: Path) -> None:
    """Build the wheel that the project finds in its `dist`."""
    where = ["--wheel", "--outdir", str(project / "dist"), str(package)]
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", *where], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Writes the project and builds the wheel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, metavar="PACKAGE_FOLDER")
    parser.add_argument("project", type=Path, metavar="PROJECT_FOLDER")
    asked = parser.parse_args()
    write_project(asked.package, asked.project)
    build_wheel(asked.package, asked.project)


if __name__ == "__main__":
    main()

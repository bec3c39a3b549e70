"""Every chore and every table of this repository.

`nox --list` is the table of contents; bare `nox` runs the checks and the fast tests.
Options for a tool stand after `--`.
"""

import hashlib
import json
import os
import shutil
import sys
import tomllib
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "architecture", "traceability", "tests"]

ROOT = Path(__file__).resolve().parent
PROJECT = nox.project.load_toml("pyproject.toml")
PACKAGES = {path.parent.name: path.parent.relative_to(ROOT) for path in sorted(ROOT.glob("packages/*/pyproject.toml"))}
SOURCES = [folder / "src" for folder in PACKAGES.values()]
SUITES = [*PACKAGES, "reproductions", "together"]
MUTATED = ["context_prediction", "continuous_diffusion", "discrete_diffusion"]
PEERS = [name.removeprefix("recipes_") for name in PROJECT["dependency-groups"] if name.startswith("recipes_")]
DISTRIBUTIONS = ROOT / "dist"
SCHEMAS = {
    "citation-file-format": "CITATION.cff",
    "github-issue-forms": ".github/ISSUE_TEMPLATE/[!c]*.yml",
    "github-workflows": ".github/workflows/*.yml",
}
MEASURED = ["-c", "constraints.txt"]
OLDEST = ["--resolution=lowest-direct", "--only-binary=:all:"]


@nox.session
@nox.parametrize("suite", [nox.param(suite, id=suite) for suite in SUITES])
def tests(session: nox.Session, suite: str) -> None:
    """Test each package alone in its own environment, then the packages together."""
    if suite in PACKAGES:
        install(session, "-e", PACKAGES[suite], *group("test"))
        pytest(session, PACKAGES[suite])
    else:
        install_everything(session, *group("test"))
        pytest(session, "reproductions" if suite == "reproductions" else "tests")


@nox.session(venv_backend="uv")
@nox.parametrize("suite", [nox.param(name, id=name) for name in PACKAGES])
def tests_oldest(session: nox.Session, suite: str) -> None:
    """Test each package with the oldest versions that it says it works with (needs uv)."""
    install(session, "-e", PACKAGES[suite], *group("test"), versions=OLDEST)
    pytest(session, PACKAGES[suite])


@nox.session
@nox.parametrize("suite", [nox.param(name, id=name) for name in PACKAGES])
def coverage(session: nox.Session, suite: str) -> None:
    """Measure how much of a package, branches too, its own tests run: at least 95 %."""
    install(session, "-e", PACKAGES[suite], *group("coverage"))
    data = {"COVERAGE_FILE": str(Path(session.virtualenv.location).resolve() / "coverage")}
    session.run("coverage", "erase", env=data)
    measured = ["coverage", "run", f"--source={PACKAGES[suite] / 'src'}", "-m", "pytest", "--markdown-docs"]
    session.run(*measured, PACKAGES[suite], *session.posargs, env=data)
    session.run("coverage", "combine", "--quiet", env=data)
    session.run("coverage", "report", env=data)


@nox.session
@nox.parametrize("package", [nox.param(name, id=name) for name in MUTATED])
def mutation(session: nox.Session, package: str) -> None:
    """Break a package on purpose, change by change, and count what its tests notice; `-- --tests NAME --ending 147`."""
    install(session, "-e", PACKAGES[package], *group("mutation"))
    folder = Path(session.virtualenv.location).resolve() / "mutation"
    session.run("python", "workshop/mutation.py", package, folder, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff, and forms by their schemas; `-- --fix` mends what can be mended."""
    install(session, *group("lint"))
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *session.posargs, ".")
    session.run("ruff", "format", *([] if fix else ["--check"]), ".")
    for schema, pattern in SCHEMAS.items():
        files = sorted(path.relative_to(ROOT) for path in ROOT.glob(pattern))
        session.run("check-jsonschema", f"--builtin-schema=vendor.{schema}", *files)


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of every package with mypy --strict."""
    install(session, *editable_packages(), *group("types"))
    for source in SOURCES:
        session.run("mypy", source, *session.posargs)


@nox.session
def architecture(session: nox.Session) -> None:
    """Check the arrows between packages: who may import whom."""
    install(session, *group("architecture"))
    session.run("lint-imports", *session.posargs, env={"PYTHONPATH": os.pathsep.join(map(str, [*SOURCES, "."]))})


@nox.session(venv_backend="none")
def traceability(session: nox.Session) -> None:
    """Check every promise of papers.toml against code and tests; `-- --write` renews the tables."""
    session.run(sys.executable, "docs/traceability.py", *session.posargs, external=True)


@nox.session
def build(session: nox.Session) -> None:
    """Build wheels and source archives into dist/ and check them; `-- NAME` or `-- TAG` builds one."""
    install(session, *group("release"))
    chosen = [released(session, name) for name in session.posargs] or list(PACKAGES)
    shutil.rmtree(DISTRIBUTIONS, ignore_errors=True)
    for name in chosen:
        session.run("python", "-m", "build", "--no-isolation", "--outdir", DISTRIBUTIONS, PACKAGES[name], silent=True)
        session.run("python", "workshop/artefacts.py", PACKAGES[name], DISTRIBUTIONS)
    session.run("twine", "check", "--strict", *sorted(path.relative_to(ROOT) for path in DISTRIBUTIONS.iterdir()))


@nox.session(venv_backend="uv")
@nox.parametrize("package", [nox.param(name, id=name) for name in PACKAGES])
def release(session: nox.Session, package: str) -> None:
    """Release one package: `-- major|minor|patch|VERSION`; `--dry-run` tries everything and leaves no trace."""
    install(session, *group("release"))
    session.run("python", "workshop/release.py", PACKAGES[package], *session.posargs)


@nox.session
@nox.parametrize("suite", [nox.param(name, id=name) for name in PACKAGES])
def alone(session: nox.Session, suite: str) -> None:
    """Build and install each wheel in an empty environment and run its tests there."""
    install(session, PACKAGES[suite], *group("test"))
    session.install("--force-reinstall", "--no-deps", PACKAGES[suite])
    modules = sorted(ROOT.glob("packages/*/src/*/__init__.py"))
    siblings = [module.parent.name for module in modules if module.parents[2].name != suite]
    session.run("python", "-c", f"import importlib.util as i, sys; sys.exit(any(map(i.find_spec, {siblings})))")
    pytest(session, PACKAGES[suite])


@nox.session(venv_backend="uv")
@nox.parametrize("suite", [nox.param(name, id=name) for name in PACKAGES])
def elsewhere(session: nox.Session, suite: str) -> None:
    """Use each wheel in a project outside this clone: by name, offline, run and type-checked (needs uv)."""
    install(session, *project(suite)["dependencies"], *group("elsewhere"))
    cache = Path(session.virtualenv.location).resolve() / "mypy"
    with TemporaryDirectory() as folder:
        session.run("python", "workshop/elsewhere.py", PACKAGES[suite], folder)
        offline = ["--offline", f"--find-links={folder}/dist", f"--reinstall-package={project(suite)['name']}"]
        session.install(*offline, "-r", f"{folder}/pyproject.toml")
        with session.chdir(folder):
            session.run("python", "use.py")
            session.run("mypy", "--strict", "--allow-untyped-calls", f"--cache-dir={cache}", "use.py")
            session.run("pyright", "use.py")


@nox.session
@nox.parametrize("suite", [nox.param(name, id=name) for name in PACKAGES])
def parity(session: nox.Session, suite: str) -> None:
    """Test a package beside its peers: other libraries on the same arrays, files and weights."""
    install(session, "-e", PACKAGES[suite], *group("parity"))
    pytest(session, PACKAGES[suite])


@nox.session
@nox.parametrize("peer", [nox.param(peer, id=peer) for peer in PEERS])
def recipes(session: nox.Session, peer: str) -> None:
    """Run the recipes for each peer's training loop where only it and the built context-prediction are installed."""
    package = PACKAGES["context_prediction"]
    install(session, package, *group(f"recipes_{peer}"))
    session.install("--force-reinstall", "--no-deps", package)
    for script in sorted(ROOT.glob(f"recipes/{peer}_*.py")):
        session.run("python", script.relative_to(ROOT))


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Measure speed against peers, side by side: ratios, never verdicts; `-- NAME` runs one."""
    install_everything(session, *group("benchmarks"))
    scripts = {
        path.stem: path.relative_to(ROOT) for path in sorted(ROOT.glob("benchmarks/*.py")) if path.stem != "timing"
    }
    chosen = [name for name in session.posargs if name in scripts] or list(scripts)
    options = [option for option in session.posargs if option not in scripts]
    for name in chosen:
        session.run("python", scripts[name], *options)


@nox.session
def reproduce_table1(session: nox.Session) -> None:
    """Reproduce Table 1, text-to-image; `-- --help` shows profiles, data, rows, seeds."""
    install_everything(session)
    reproduce(session, "table1")


@nox.session
def reproduce_table2(session: nox.Session) -> None:
    """Reproduce Table 2, filling in behind masks, with the options of Table 3; --lpips takes weights."""
    install_everything(session)
    reproduce(session, "table2")


@nox.session
def reproduce_table3(session: nox.Session) -> None:
    """Reproduce Table 3, pictures without a condition, with the options of Table 1; --data takes several sets."""
    install_everything(session)
    reproduce(session, "table3")


@nox.session
def reproduce_figure4(session: nox.Session) -> None:
    """Reproduce Figure 4, quality and cost against the stride of the context, with the options of Table 3."""
    install_everything(session)
    reproduce(session, "figure4")


@nox.session
def reproduce_figure5(session: nox.Session) -> None:
    """Reproduce Figure 5, six models with and without context prediction, with the options of Table 3."""
    install_everything(session)
    reproduce(session, "figure5")


@nox.session
def study(session: nox.Session) -> None:
    """Ask whether context prediction helps, in pairs of trainings; `-- --help` shows sizes, data, seeds."""
    install_everything(session)
    reproduce(session, "study", "context")


@nox.session
def licences(session: nox.Session) -> None:
    """Check the licences of all that comes along, and the page that lists them; `-- --write` renews it."""
    extras = [
        f"{folder}[{','.join(project(name).get('optional-dependencies', {}))}]" for name, folder in PACKAGES.items()
    ]
    install(session, *chain.from_iterable(("-e", each) for each in [*extras, "reproductions"]), "packaging")
    session.run("python", "workshop/requirements.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site into docs/_build/html."""
    install(session, *editable_packages(), *group("docs"))
    session.run("sphinx-build", "-W", "--keep-going", "-q", "docs", "docs/_build/html", *session.posargs)


@nox.session(venv_backend="none")
def compatibility(session: nox.Session) -> None:
    """Check the table of the versions that were measured together; `-- --write` renews it."""
    session.run(sys.executable, "workshop/compatibility.py", *session.posargs, external=True)


@nox.session(venv_backend="none")
def constraints(session: nox.Session) -> None:
    """Resolve constraints.txt anew (needs uv)."""
    projects = [f"{folder}/pyproject.toml" for folder in [*PACKAGES.values(), "reproductions"]]
    groups = [f"--group=pyproject.toml:{name}" for name in PROJECT["dependency-groups"]]
    own = [f"--no-emit-package={tomllib.loads(Path(path).read_text())['project']['name']}" for path in projects]
    options = ["--universal", "--python-version=3.11", "--no-annotate", "--quiet", "--all-extras"]
    command = ["uv", "pip", "compile", *options, "--custom-compile-command=nox -s constraints"]
    session.run(*command, *projects, *groups, *own, "--output-file=constraints.txt", *session.posargs, external=True)


def reproduce(session: nox.Session, *name: str) -> None:
    """Runs a table or a study and ends with its exit code; on Ctrl-C the run is given time to say how to go on."""
    command = ["python", "-m", "reproductions", *name, *session.posargs]
    try:
        session.run(*command, interrupt_timeout=120, terminate_timeout=30)
    except CommandFailed as failure:
        raise SystemExit(getattr(failure, "return_code", None) or 1) from failure


def pytest(session: nox.Session, *targets: str | Path) -> None:
    """Runs the tests and README code blocks below `targets`, or the files named after `--`; options pass through."""
    named = [option for option in session.posargs if Path(option.split("::")[0]).exists()]
    success_codes = [0, 5] if session.posargs else [0]  # 5: the options left no test of this suite
    paths = [] if named else targets
    session.run("pytest", "--markdown-docs", *paths, *session.posargs, success_codes=success_codes)


def install(session: nox.Session, *requirements: str | Path, versions: list[str] = MEASURED) -> None:
    """Installs what is not yet installed: the same requirements, pins and project files need no second visit."""
    wanted = [*versions, *map(str, requirements)]
    files = [ROOT / "constraints.txt", *(Path(name) / "pyproject.toml" for name in wanted if Path(name).is_dir())]
    digest = hashlib.sha256(json.dumps(wanted).encode() + b"".join(file.read_bytes() for file in files)).hexdigest()
    stamp = Path(session.virtualenv.location) / "installed.sha256"
    if not stamp.is_file() or stamp.read_text() != digest:
        session.install(*wanted)
        stamp.write_text(digest)


def install_everything(session: nox.Session, *requirements: str) -> None:
    """Installs the five packages and the reproductions from this clone, editable."""
    install(session, *editable_packages(), "-e", Path("reproductions"), *requirements)


def released(session: nox.Session, name: str) -> str:
    """The package that `name` is, or that `name` is the release tag of, which must tell its present version."""
    tags = {f"{project(folder)['name']}-v{project(folder)['version']}": folder for folder in PACKAGES}
    if name not in {*tags, *PACKAGES}:
        session.error(
            f"{name} is none of the packages {', '.join(PACKAGES)}, nor of the present tags {', '.join(tags)}"
        )
    return tags.get(name, name)


def project(package: str) -> dict[str, Any]:
    """What a package declares of itself."""
    return dict(nox.project.load_toml(PACKAGES[package] / "pyproject.toml")["project"])


def editable_packages() -> list[str | Path]:
    """The pip options that install every package from this clone."""
    return [option for folder in PACKAGES.values() for option in ("-e", folder)]


def group(name: str) -> tuple[str, ...]:
    """The requirements of one dependency group of pyproject.toml."""
    return nox.project.dependency_groups(PROJECT, name)

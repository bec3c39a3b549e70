"""Continuous integration runs nox's sessions: all on main, and on a change those that it can break."""

import ast
import importlib
import subprocess
import sys
import tomllib
from itertools import takewhile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "workshop"))
matrix = importlib.import_module("matrix")

WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")}
PACKAGES = ["alpha", "beta"]
COMPOSING = {"reproductions", "together", "recipes", "licences"}


def session(name: str, **call_spec: str) -> dict:
    shown = ", ".join(call_spec.values())
    return {"session": f"{name}({shown})" if shown else name, "name": name, "call_spec": call_spec}


LISTED = [
    *(session("tests", suite=suite) for suite in [*PACKAGES, "reproductions", "together"]),
    *(session("tests_oldest", suite=suite) for suite in PACKAGES),
    *(session("alone", suite=suite) for suite in PACKAGES),
    session("recipes", peer="torch"),
    session("lint"),
]


def commands(workflow: str) -> list[str]:
    steps = [step for job in WORKFLOWS[workflow]["jobs"].values() for step in job["steps"]]
    return [line for step in steps for line in step.get("run", "").splitlines()]


@pytest.mark.parametrize(
    ("paths", "suites"),
    [
        ([], set()),
        (["README.md", "docs/index.md", "benchmarks/timing.py"], set()),
        (["packages/alpha/src/alpha/loss.py"], {"alpha", *COMPOSING}),
        (["packages/alpha/README.md", "packages/beta/tests/test_x.py"], {"alpha", "beta", *COMPOSING}),
        (["reproductions/data.py"], {"reproductions", "together", "licences"}),
        (["tests/test_twins.py"], {"together"}),
        (["recipes/torch_loop.py", "docs/recipes.md"], {"recipes"}),
        (["packages/gamma/pyproject.toml"], None),
        (["packages"], None),
        (["pyproject.toml"], None),
        (["constraints.txt", "docs/index.md"], None),
        (["docs/index.md", "noxfile.py"], None),
        ([".github/workflows/ci.yml"], None),
        (["anything/new.md"], None),
    ],
)
def test_a_change_reaches_a_package_and_what_composes_it(paths: list[str], suites: set[str] | None) -> None:
    assert matrix.affected(paths, PACKAGES) == suites


def test_the_whole_runs_every_suite_on_every_python_it_is_held_to() -> None:
    found = [(job["session"], job["python"]) for job in matrix.jobs(LISTED, None)]
    assert len(found) == len(set(found)) == 4 * (4 + 2) + 2 + 1
    assert ("tests(together)", "3.14") in found
    assert ("tests_oldest(beta)", "3.12") in found
    assert ("recipes(torch)", "3.11") in found
    assert not [job for job in found if job[0] == "lint"]


def test_a_change_of_one_package_leaves_the_others_alone() -> None:
    sessions = {job["session"] for job in matrix.jobs(LISTED, {"alpha", *COMPOSING})}
    assert sessions == {
        "tests(alpha)",
        "tests(reproductions)",
        "tests(together)",
        "tests_oldest(alpha)",
        "alone(alpha)",
        "recipes(torch)",
    }
    assert matrix.jobs(LISTED, set()) == []


def test_the_pythons_begin_with_the_floor_of_every_package() -> None:
    for path in ROOT.glob("packages/*/pyproject.toml"):
        assert tomllib.loads(path.read_text())["project"]["requires-python"] == f">={matrix.PYTHONS[0]}", path


def test_what_changed_is_told_by_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-b", "main")
    (tmp_path / "kept").write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    git("checkout", "-b", "side")
    (tmp_path / "mended").write_text("2")
    git("add", ".")
    git("commit", "-m", "second")
    git("checkout", "main")
    (tmp_path / "elsewhere").write_text("3")
    git("add", ".")
    git("commit", "-m", "main goes on")
    git("checkout", "side")
    monkeypatch.setattr(matrix, "ROOT", tmp_path)
    assert matrix.changed("main") == ["mended"]


def test_every_session_that_a_workflow_names_exists() -> None:
    defined = {
        node.name
        for node in ast.parse((ROOT / "noxfile.py").read_text()).body
        if isinstance(node, ast.FunctionDef) and any("session" in ast.unparse(mark) for mark in node.decorator_list)
    }
    asked = [line.split() for name in WORKFLOWS for line in commands(name) if line.startswith("nox -s")]
    named = {word for line in asked for word in takewhile(lambda word: word != "--", line[2:]) if word.isidentifier()}
    assert {"lint", "types", "architecture", "traceability"} <= named <= defined
    assert set(matrix.RUNS_ON) <= defined


def test_nox_lists_what_the_matrix_asks_for() -> None:
    pytest.importorskip("nox", reason="nox stands outside the environments it makes")
    jobs = matrix.jobs(matrix.listed_sessions(), None)
    assert {"session": "tests_oldest(context_prediction)", "python": "3.14"} in jobs
    assert {job["session"].partition("(")[0] for job in jobs} == set(matrix.RUNS_ON)


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_workflows_are_whole_and_ask_for_no_more_than_they_need(name: str) -> None:
    workflow = WORKFLOWS[name]
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow[True], "`on`, which YAML reads as true"
    for job in workflow["jobs"].values():
        needed = job.get("needs", [])
        assert {needed} if isinstance(needed, str) else set(needed) <= set(workflow["jobs"])
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])


def test_the_matrix_is_the_plan() -> None:
    jobs = WORKFLOWS["ci"]["jobs"]
    assert jobs["suites"]["strategy"]["matrix"] == {"include": "${{ fromJSON(needs.plan.outputs.jobs) }}"}
    assert any("workshop/matrix.py" in line for line in commands("ci"))
    assert set(jobs["passed"]["needs"]) == set(jobs) - {"passed"}

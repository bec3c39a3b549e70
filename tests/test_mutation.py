"""What is told of changes that tests do not notice: counted from what mutmut tells, with a reason for each."""

import importlib
import json
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "workshop"))
mutation = importlib.import_module("mutation")

TOLD = """    alpha.loss.x_total__mutmut_1: killed
    alpha.loss.x_total__mutmut_2: survived
    alpha.loss.x_total__mutmut_3: timeout
    alpha.weight.x_of__mutmut_1: no tests
"""
DIFF = """# alpha.loss.x_total__mutmut_2: survived
--- src/alpha/loss.py
+++ src/alpha/loss.py
@@ -1,3 +1,3 @@
 def total(a, b):
-    return a + b
+    return a - b
"""
CHANGES = {"alpha.loss.x_total__mutmut_2": "- a + b\n+ a - b", "alpha.weight.x_of__mutmut_1": "- 1\n+ 2"}


def test_changes_are_counted_by_module_and_reasons_are_kept() -> None:
    known = {"alpha.loss": {"changes": 9, "survivors": [{"change": "- a + b\n+ a - b", "reason": "b is 0."}]}}
    found = mutation.counted(mutation.statuses(TOLD), CHANGES, known)
    assert found == {
        "alpha.loss": {"changes": 3, "survivors": [{"change": "- a + b\n+ a - b", "reason": "b is 0."}]},
        "alpha.weight": {"changes": 1, "survivors": [{"change": "- 1\n+ 2", "reason": ""}]},
    }
    assert mutation.rate(found.values()) == pytest.approx(2 / 4)
    rate, reason = mutation.faults(found)
    assert rate.startswith("alpha: tests notice 50.0 % of the changes")
    assert reason.startswith("alpha.weight: say in docs/mutation.json")


def test_what_was_not_tried_ends_the_run() -> None:
    with pytest.raises(SystemExit, match=r"run it again to go on:\nalpha.loss.x: not checked"):
        mutation.statuses("    alpha.loss.x: not checked\n    alpha.loss.y: killed\n")


def test_a_sample_is_of_the_changes_whose_numbers_end_so() -> None:
    told = TOLD + "    alpha.loss.x_total__mutmut_14: not checked\n"
    assert list(mutation.statuses(told, "12")) == [
        "alpha.loss.x_total__mutmut_1",
        "alpha.loss.x_total__mutmut_2",
        "alpha.weight.x_of__mutmut_1",
    ]
    with pytest.raises(SystemExit, match="mutmut_14: not checked"):
        mutation.statuses(told, "14")


def test_a_change_is_the_lines_that_go_and_come() -> None:
    assert mutation.change(DIFF) == "- return a + b\n+ return a - b"


def test_the_page_tells_rates_and_reasons() -> None:
    page = mutation.page(
        {"alpha.loss": {"made": 90, "changes": 40, "survivors": [{"change": "- 1\n+ 2", "reason": "Either."}]}}
    )
    assert "| **alpha** | 90 | 40 | 39 | 97.5 % |\n| alpha.loss | 90 | 40 | 39 | 97.5 % |" in page
    assert "## alpha.loss\n\nEither.\n\n```diff\n- 1\n+ 2\n```" in page


@pytest.mark.parametrize("package", mutation.WATCHED)
def test_every_watched_module_and_every_watching_test_is_there(package: str) -> None:
    folder = ROOT / "packages" / package
    for tests, modules in mutation.WATCHED[package].items():
        assert (folder / "tests" / f"{tests}.py").is_file()
        assert all(list((folder / "src" / package).glob(f"{module}.py")) for module in modules)


def test_a_copy_has_the_sources_and_settings_and_forgets_what_lived_on(tmp_path: Path) -> None:
    meta = tmp_path / "mutants" / "src" / "continuous_diffusion" / "forward_process.py.meta"
    meta.parent.mkdir(parents=True)
    meta.write_text(json.dumps({"exit_code_by_key": {"killed": 1, "survived": 0, "no tests": 33}}))
    mutation.prepare("continuous_diffusion", "test_forward_process", tmp_path)
    assert json.loads(meta.read_text())["exit_code_by_key"] == {"killed": 1, "survived": None, "no tests": None}
    settings = tomllib.loads((tmp_path / "pyproject.toml").read_text())["tool"]
    [mutated] = settings["mutmut"]["only_mutate"]
    assert (tmp_path / mutated).read_text() == (ROOT / "packages/continuous_diffusion" / mutated).read_text()
    [tests] = settings["mutmut"]["pytest_add_cli_args_test_selection"]
    assert (tmp_path / tests).is_file()
    assert settings["pytest"]["filterwarnings"] == ["error"]


def test_the_page_is_made_from_the_results() -> None:
    results = json.loads(mutation.RESULTS.read_text())
    assert mutation.PAGE.read_text() == mutation.page(results)
    assert list(mutation.faults(results)) == []

"""Breaks a package on purpose, a small change at a time, and tells which changes its tests do not notice.

    python workshop/mutation.py PACKAGE FOLDER [--tests NAME ...] [--ending DIGITS] [--children N]

mutmut makes the changes in copies below `FOLDER`, one for each file of tests with the modules that it watches, and
what it found there is not tried again. `--ending 147` takes a sample: of each function the changes whose number ends in
one of these digits. The counts and the changes that live on go into `docs/mutation.json`; the
reason why each of these may live is written there by hand, and `docs/mutation.md` is made from it. What is decorated,
other than by `classmethod` or `staticmethod`, is left as it is: properties, kernels and operators of torch.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "docs" / "mutation.json", ROOT / "docs" / "mutation.md"
LEAST = 0.85
DIGITS = "0123456789"
WATCHED: dict[str, dict[str, tuple[str, ...]]] = {
    "continuous_diffusion": {"test_forward_process": ("forward_process",)},
    "discrete_diffusion": {"test_forward_process": ("forward_process", "reversal")},
    "context_prediction": {
        "test_tokens": ("tokens",),
        "test_weight": ("weight",),
        "test_bound": ("bound",),
        "test_transport": ("transport", "plan"),
        "test_neighbourhood": ("neighbourhood",),
        "test_loss": ("loss", "surroundings"),
        "test_distances": ("distances",),
        "test_decoder": ("decoder", "trunk"),
        "test_capture": ("capture",),
        "test_assignment": ("assignment/*",),
    },
}
"""The modules of a package that each of its files of tests is asked about."""
LEFT_OUT = {"test_capture": ["-k", "not compiled"]}
"""Options that leave out tests of compiled code, of which mutmut cannot watch what it calls."""
LIVES_ON = ("survived", "no tests")
UNNOTICED = (0, 5, 33)
"""How mutmut keeps those."""
SLOW_TO_IMPORT = ("hypothesis", "scipy.optimize", "safetensors.torch", "torch.distributed.tensor")
"""What tests import before they begin, the last for `torch.testing.assert_close`: once is enough for all changes."""
PRELOADED = "ignore:Module already imported:pytest.PytestWarning"
NOTICED = ("killed", "timeout", "segfault")
TEXT = """<!-- Written by workshop/mutation.py from docs/mutation.json, where the reasons stand. -->
# What the tests notice

Tests that run a line need not notice when it is wrong. Here mutmut changes the code a little at a time (an operator, a
number, an argument left out, a condition turned round) and runs the tests of the module against each change; a change
that no test notices is told below, with the reason why it may stand. Shapes and types are checked while tests run, and
so notice changes too. Where fewer changes are tried than there are, they are a sample. What lived on at first and has
tests since was tried again by itself.

```
nox -s "mutation(continuous_diffusion)"                     or discrete_diffusion, or context_prediction
nox -s "mutation(context_prediction)" -- --tests test_loss  the modules that one file of tests watches
nox -s "mutation(context_prediction)" -- --ending 147       a sample: of each function the changes numbered so
```

"""


def prepare(package: str, tests: str, folder: Path) -> None:
    """Copies a package into `folder`, with the settings for one file of its tests and the modules that it watches.

    Tests may have changed since an earlier run there: what lived on then, and which test runs what, is found anew.
    """
    source = ROOT / "packages" / package
    for part in ("src", "tests"):
        shutil.copytree(source / part, folder / part, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    name = next(path.name for path in (source / "src").iterdir() if (path / "__init__.py").is_file())
    hook = f'from jaxtyping import install_import_hook\n\ninstall_import_hook(["{name}"], "beartype.beartype")\n'
    (folder / "shape_checks.py").write_text(hook)
    (folder / "preloaded").write_text("\n".join([*SLOW_TO_IMPORT, "shape_checks", name]))
    (folder / "pyproject.toml").write_text(settings(name, tests, WATCHED[package][tests]))
    (folder / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    for path in folder.glob("mutants/**/*.meta"):
        meta = json.loads(path.read_text())
        known = meta["exit_code_by_key"]
        kept = {key: None if code in UNNOTICED else code for key, code in known.items()}
        path.write_text(json.dumps(meta | {"exit_code_by_key": kept}))


def settings(name: str, tests: str, modules: Iterable[str]) -> str:
    """The `pyproject.toml` of such a copy: mutmut's settings, and those of pytest from the root's."""
    pytest = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]
    lists: dict[str, dict[str, str | int | list[str]]] = {
        "tool.mutmut": {
            "source_paths": ["src"],
            "only_mutate": [f"src/{name}/{module}.py" for module in modules],
            "also_copy": ["shape_checks.py"],
            "pytest_add_cli_args_test_selection": [f"tests/{tests}.py", *LEFT_OUT.get(tests, [])],
            "process_isolation": "forkserver",  # so that what a file of tests makes when it is imported is made anew
            "forkserver_warmup": "import",
            "preload_modules_file": "preloaded",
            "timeout_constant": 20,  # seconds, times 15: given up when stuck, not when the machine is busy
            "pytest_add_cli_args": ["-p", "no:cacheprovider", "-p", "shape_checks", "-W", PRELOADED],
        },
        "tool.pytest": {
            "addopts": [option for option in pytest["addopts"] if not option.startswith("--jaxtyping")],
            "markers": pytest["markers"],
            "filterwarnings": pytest["filterwarnings"],
        },
    }
    lines = [
        line
        for table, entries in lists.items()
        for line in (f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in entries.items()))
    ]
    return "\n".join([*lines, ""])


def statuses(told: str, ending: str = DIGITS) -> dict[str, str]:
    """What became of each change whose number ends in one of these digits, from what `mutmut results` tells.

    Raises:
        SystemExit: some were not tried, or broke pytest itself, as all of them seem to where none fails a test.
    """
    found = dict(line.strip().split(": ") for line in told.splitlines() if line.strip())
    found = {name: status for name, status in found.items() if ending == DIGITS or name[-1] in ending}
    if unclear := [f"{name}: {status}" for name, status in found.items() if status not in LIVES_ON + NOTICED]:
        sys.exit("\n".join(["not every change was tried; run it again to go on:", *unclear]))
    if "killed" not in found.values():
        sys.exit("no change failed a test: is it pytest that fails?")
    return found


def counted(found: Mapping[str, str], changes: Mapping[str, str], known: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of the results: for each module how many changes were tried, and those that live on.

    `changes` are the lines taken away and put in, by the name of the change; reasons are those of `known`.
    """
    reasons = {
        (module, each["change"]): each["reason"] for module, entry in known.items() for each in entry["survivors"]
    }
    entries: dict[str, Any] = {}
    for name, status in found.items():
        module = name.rpartition(".")[0]
        entry = entries.setdefault(module, {"changes": 0, "survivors": []})
        entry["changes"] += 1
        if status in LIVES_ON:
            reason = reasons.get((module, changes[name]), "")
            entry["survivors"].append({"change": changes[name], "reason": reason})
    return entries


def change(diff: str) -> str:
    """The lines of a diff that go and come, without the indentation that they share."""
    lines = [line for line in diff.splitlines() if line[:1] in ("-", "+") and line[:3] not in ("---", "+++")]
    return "\n".join(f"{line[0]} {line[1:].strip()}" for line in lines)


def measure(
    package: str, tests: str, folder: Path, ending: str, children: int, known: Mapping[str, Any]
) -> dict[str, Any]:
    """Makes the changes that one file of tests is asked about, and tells what became of them."""
    prepare(package, tests, folder)
    patterns = [f"*{digit}" for digit in ending] if ending != DIGITS else []
    subprocess.run(["mutmut", "run", "--max-children", str(children), *patterns], cwd=folder, check=True)

    def told(*arguments: str) -> str:
        return subprocess.run(["mutmut", *arguments], cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout

    everything = told("results", "--all", "true")
    found = statuses(everything, ending)
    lives_on = [name for name, status in found.items() if status in LIVES_ON]
    entries = counted(found, {name: change(told("show", name)) for name in lives_on}, known)
    for module, entry in entries.items():
        entry["made"] = everything.count(f" {module}.")
    return entries


def rate(entries: Iterable[Mapping[str, Any]]) -> float:
    """The share of changes that were noticed."""
    entries = list(entries)
    return 1 - sum(len(entry["survivors"]) for entry in entries) / sum(entry["changes"] for entry in entries)


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The Markdown page: a table of packages and modules, then what lives on and why."""
    return TEXT + "\n".join([*table(results), "", *survivors(results)]) + "\n"


def table(results: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A line for each package, and one for each of its modules."""
    yield "| | changes | tried | noticed | |\n|---|---|---|---|---|"
    for package in sorted({module.partition(".")[0] for module in results}):
        modules = {name: entry for name, entry in sorted(results.items()) if name.startswith(f"{package}.")}
        for name, entries in ({f"**{package}**": modules.values()} | {n: [e] for n, e in modules.items()}).items():
            made, tried = (sum(entry[count] for entry in entries) for count in ("made", "changes"))
            yield f"| {name} | {made} | {tried} | {round(tried * rate(entries))} | {100 * rate(entries):.1f} % |"


def survivors(results: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What lives on, module by module, with the reasons."""
    for name, entry in sorted(results.items()):
        if entry["survivors"]:
            yield f"## {name}\n"
        for each in entry["survivors"]:
            yield f"{each['reason']}\n\n```diff\n{each['change']}\n```\n"


def faults(results: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What is wrong with the results, one sentence each."""
    for package in sorted({module.partition(".")[0] for module in results}):
        noticed = rate(entry for module, entry in results.items() if module.startswith(f"{package}."))
        if noticed < LEAST:
            yield f"{package}: tests notice {100 * noticed:.1f} % of the changes, and should notice {100 * LEAST:.0f} %"
    for module, entry in results.items():
        for each in entry["survivors"]:
            if not each["reason"]:
                yield f"{module}: say in docs/mutation.json why this may live on, or test it:\n{each['change']}"


def main() -> None:
    """Measures, and writes the results and their page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", choices=WATCHED)
    parser.add_argument("folder", type=Path, help="where the copies are kept")
    parser.add_argument("--tests", nargs="+", default=[], metavar="NAME", help="only these files of tests")
    parser.add_argument("--ending", default=DIGITS, help="a sample: only changes whose number ends in one of these")
    parser.add_argument("--children", type=int, default=1, metavar="N", help="how many changes are tried at once")
    asked = parser.parse_args()
    if unknown := set(asked.tests) - set(WATCHED[asked.package]):
        parser.error(f"{', '.join(unknown)}: {asked.package} has {', '.join(WATCHED[asked.package])}")
    for tests in asked.tests or WATCHED[asked.package]:
        results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
        results |= measure(
            asked.package, tests, asked.folder / asked.package / tests, asked.ending, asked.children, results
        )
        RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1, ensure_ascii=False) + "\n")
        PAGE.write_text(page(results))
    if wrong := list(faults(json.loads(RESULTS.read_text()))):
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()

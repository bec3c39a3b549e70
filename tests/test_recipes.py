"""The recipes add five lines to a loop that is whole without them; `nox -s recipes` runs them."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(set(ROOT.glob("recipes/*.py")) - {ROOT / "recipes" / "checks.py"})
ADDED = re.compile(r"# \+ (\d)$")
PROOF = re.compile(r"^(import checks|losses, pristine|checks\.|captured\.close|times\.close)")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_five_lines_are_added(script):
    lines = script.read_text(encoding="utf-8").splitlines()
    assert [found[1] for line in lines if (found := ADDED.search(line))] == list("12345")


@pytest.mark.parametrize(
    "script", [script for script in SCRIPTS if script.stem.startswith("torch_")], ids=lambda s: s.stem
)
def test_the_loop_runs_without_them(script):
    """The script less what is marked, and less its proof, is a training loop that knows nothing of the head."""
    lines = script.read_text(encoding="utf-8").splitlines()
    bare = [line for line in lines if not ADDED.search(line) and not PROOF.match(line)]
    short = "\n".join(bare).replace("range(60)", "range(2)")
    assert "context" not in short.lower() and "captured" not in short
    with torch.random.fork_rng():
        loop = {}
        exec(compile(short, script, "exec"), loop)
    assert loop["loss"].isfinite().all() and all(p.grad is not None for p in loop["model"].parameters())


def test_the_page_shows_every_script():
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    shown = re.findall(r"literalinclude\} \.\./recipes/(\w+)\.py", page)
    assert sorted(shown) == [script.stem for script in SCRIPTS]

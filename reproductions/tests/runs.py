"""Commands as a person gives them: in processes of their own, to be waited for, interrupted or killed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from reproductions.figure4 import TIME


def start(name: str, out: Path, *more: str, **environment: str) -> subprocess.Popen[str]:
    """Begin a table at smoke size in a process group of its own."""
    line = [sys.executable, "-m", "reproductions", name, "--profile", "smoke", "--out", str(out), *more]
    return subprocess.Popen(
        line,
        env={**os.environ, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for success; what was said."""
    said = process.communicate()[0]
    assert process.returncode == 0, said
    return said


def table(out: Path, name: str) -> dict[str, Any]:
    """The finished table without what may differ from run to run: times, and the commit that a neighbour may make."""
    found: dict[str, Any] = json.loads((out / f"{name}.json").read_text())
    found["manifest"].pop("commit")
    for row in found["rows"]:
        (row["measured"] or {}).pop(TIME, None)
    return found


def receipts(out: Path) -> dict[str, int]:
    """When each stage was finished."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("stages/*/stage.json")}

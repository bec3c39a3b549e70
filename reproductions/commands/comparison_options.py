"""What `conprediff compare` takes; imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

Runs = Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN RUN ...")]


@dataclass(frozen=True)
class CompareOptions:
    """What is compared with what."""

    runs: Runs
    """Folders of finished runs of one table; differences are from the first."""
    out: Path = Path("compare.html")
    """The page to write."""

"""The command line: `python -m reproductions table1 ...`, installed as `conprediff`."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Options:
    """What a table's command takes."""

    profile: str = "cpu"
    """How much of everything: smoke, cpu, gpu or paper."""
    data: str = "shapes"
    """shapes, shapes-hard, digits, a folder of images, a parquet file or folder, or a hub id."""
    rows: str | None = None
    """Rows to measure, "A,B" (all that can be)."""
    seeds: str = "0"
    """Seeds of training and sampling, "0,1,2"; with two or more, results come with intervals."""
    out: Path | None = None
    """Where everything is written (outputs/<table>-<profile>-<data>)."""
    dry_run: bool = False
    """Print the plan and stop."""
    image_column: str = "image"
    """Column of a data set that holds the images."""
    caption_column: str | None = None
    """Column that holds the captions (found by its name)."""
    revision: str | None = None
    """Revision of a hub data set."""
    max_bad: int = 0
    """How many unreadable images or empty captions to leave out before giving up."""
    workers: int | None = None
    """Stages at a time, each in its own process (one per core, or one where there is a GPU; 0: all in this process)."""


def table1(options: tyro.conf.OmitArgPrefixes[Options]) -> int:
    """Text to image: ConPreDiff's Table 1, the rows that we can run measured, all others cited.

    Give the same command again after an interruption, and it goes on where it was.
    """
    from reproductions.reproduce import reproduce
    from reproductions.table1 import TABLE

    return reproduce(TABLE, options)


def main() -> None:
    """Run the command line; the exit code is 0, 2 for a mistake in it, 1 for a failed stage, 130 for Ctrl-C."""
    try:
        sys.exit(tyro.extras.subcommand_cli_from_dict({"table1": table1}, prog="conprediff"))
    except KeyboardInterrupt:
        print("\ninterrupted before anything was begun; give the same command again", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()

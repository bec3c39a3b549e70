"""Scores as a table: their names, their values with intervals, and how much was compared."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def names(rows: Iterable[Row]) -> list[str]:
    """Names of all scores, in the order in which they come."""
    return list(dict.fromkeys(score["name"] for row in rows for score in row["scores"]))


def cells(row: Row, named: Sequence[str]) -> list[str]:
    """The scores of a row under these names."""
    found = {score["name"]: score for score in row["scores"]}
    return [cell(found.get(name)) for name in named]


def cell(score: Mapping[str, Any] | None) -> str:
    """A value with its interval."""
    if score is None:
        return "–"
    digits = 3 if abs(score["value"]) < 2 else 2
    value = f"{score['value']:.{digits}f}"
    if score["low"] is None:
        return value
    return f"{value} ({score['low']:.{digits}f} to {score['high']:.{digits}f})"


def counts(rows: Iterable[Row]) -> str:
    """How many samples were compared with how many real pictures."""
    found = {(s["n_fake"], s["n_real"]) for row in rows for s in row["scores"] if s["n_real"] is not None}
    return "; ".join(f"{fake:,} against {real:,}" for fake, real in sorted(found))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; cells must hold no bars."""
    first, *rest = (f"| {' | '.join(line)} |" for line in (head, *rows))
    return [first, "|---" * len(head) + "|", *rest]


def of_rows(rows: Mapping[str, Row]) -> list[str]:
    """Lines of the Markdown table of named rows."""
    named = names(rows.values())
    return table(["", *named], ([name, *cells(row, named)] for name, row in rows.items()))

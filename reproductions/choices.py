"""Choosing by name: what is there, or an error that says what else there is."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

Thing = TypeVar("Thing")


def chosen(option: str, kind: str, name: str, known: Mapping[str, Thing]) -> Thing:
    """What is called `name` among what is known, as an option of a command asks for it.

    Raises:
        ValueError: naming what there is, and the nearest name.
    """
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{option}: there is no {kind} {name!r}; choose from {', '.join(known)}{hint}")
    return known[name]

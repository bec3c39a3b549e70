"""Token sequences as grids: transformers speak of `(b, n, d)`, the context loss of `(b, d, *grid)`."""

import math

from ._types import Grid, Sequences


def as_grid(tokens: Sequences, *grid: int) -> Grid:
    """Lay a sequence out on its grid, row-major: `(b, n, d) -> (b, d, *grid)`, a view.

    Hidden states and code vectors alike: `as_grid(codebook[tokens], 16, 16)` are the clean tokens as a target.

    Raises:
        ValueError: not three axes, or `n` differs from the number of units of the grid.
    """
    if tokens.ndim != 3:
        raise ValueError(
            f"tokens has shape {tuple(tokens.shape)}: give vectors (b, n, d), such as the code vectors of token ids"
        )
    if not grid or min(grid) < 1 or tokens.shape[1] != math.prod(grid):
        raise ValueError(
            f"tokens {tuple(tokens.shape)} has n = {tokens.shape[1]} positions, but grid {grid} has {math.prod(grid)};"
            " give the grid of the sequence, and leave class, register and text tokens out"
        )
    return tokens.movedim(2, 1).reshape(tokens.shape[0], tokens.shape[2], *grid)


def as_tokens(values: Grid) -> Sequences:
    """Read a grid as a sequence, row-major: `(b, d, *grid) -> (b, n, d)`; undoes `as_grid`.

    Raises:
        ValueError: no grid axis.
    """
    if values.ndim < 3:
        raise ValueError(f"values has shape {tuple(values.shape)}: give vectors on a grid, (b, d, *grid)")
    return values.flatten(2).movedim(1, 2)

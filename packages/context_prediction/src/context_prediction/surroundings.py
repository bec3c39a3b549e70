"""The real neighbours that generated ones are compared with: drawn, or all of them; for any part of the units."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ._types import Grid
from .neighbourhood import Neighbourhood


@dataclass(frozen=True)
class Chosen:
    """Rows of neighbours, `(units, q)`; of each unit the first `counts` exist, all if there are no counts."""

    rows: Tensor
    counts: Tensor | None


@dataclass(frozen=True)
class Surroundings:
    """Vectors of all units of a batch, `(units, c)`, and for each neighbourhood which rows are compared with."""

    vectors: Tensor
    chosen: tuple[Chosen, ...]

    @staticmethod
    def draw(
        target: Grid,
        neighbourhoods: Sequence[Neighbourhood],
        q: int | None,
        *,
        replacement: bool,
        generator: torch.Generator | None,
    ) -> "Surroundings":
        """Draw `q` neighbours of every unit, or take all; positions only, so that the copies are made part by part."""
        chosen = []
        for neighbourhood in neighbourhoods:
            if q is None:
                chosen.append(_all(target, neighbourhood))
                continue
            b, _, *grid = target.shape
            positions = neighbourhood.draw_positions(
                b, grid, q, replacement=replacement, device=target.device, generator=generator
            )
            chosen.append(Chosen(_of_batch(positions.reshape(b, -1, q)), None))
        return Surroundings(target.flatten(2).transpose(1, 2).reshape(-1, target.shape[1]), tuple(chosen))

    def sets(self, part: slice) -> list[tuple[Tensor, Tensor | None]]:
        """For each neighbourhood, the neighbours of a part of the units `(part, q, c)`, and how many exist."""
        found = []
        for chosen in self.chosen:
            rows = chosen.rows[part]
            real = self.vectors.index_select(0, rows.flatten()).reshape(*rows.shape, -1)
            found.append((real, None if chosen.counts is None else chosen.counts[part]))
        return found


def _all(target: Grid, neighbourhood: Neighbourhood) -> Chosen:
    b, _, *grid = target.shape
    found = neighbourhood.neighbours(*grid)
    positions, exists = found.positions.flatten(1).to(target.device), found.exists.flatten(1).to(target.device)
    existing_first = exists.byte().sort(dim=0, descending=True, stable=True).indices
    positions = positions.gather(0, existing_first).T
    counts = None if exists.all() else exists.sum(0).repeat(b)
    return Chosen(_of_batch(positions.expand(b, *positions.shape).clone()), counts)


def _of_batch(positions: Tensor) -> Tensor:
    """Positions on one grid, `(b, n, q)`, as rows of the whole batch, in place."""
    b, n, _ = positions.shape
    positions += n * torch.arange(b, device=positions.device)[:, None, None]
    return positions.flatten(0, 1)

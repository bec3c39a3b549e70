"""Neighbourhoods: who stands around each unit of a grid, and draws from them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import product

import torch
from torch import Tensor

from ._types import Counts, Draws, Existing, Grid, Ordered, Positions, Samples


class Border(Enum):
    """What stands beyond the edge of the grid."""

    VALID = "nothing: a unit at the edge has fewer neighbours"
    REFLECT = "the mirror image of the grid, the edge itself not repeated"
    CIRCULAR = "the opposite edge: the grid is a torus"


@dataclass(frozen=True)
class NeighbourPositions:
    """Every neighbour of every unit, as row-major positions; where `exists` is false there is none (position 0)."""

    positions: Positions
    exists: Existing


@dataclass(frozen=True)
class Neighbours:
    """Every neighbour of every unit, in the order of `Neighbourhood.offsets`; zero where `exists` is false."""

    values: Ordered
    exists: Existing


@dataclass(frozen=True)
class Neighbourhood:
    r"""All units within Chebyshev distance `stride`, the centre excluded.

    $N_i^s = \{ u \ne i : \max_a |u_a - i_a| \le s \}$, hence $(2s+1)^n - 1$ neighbours on an n-dimensional grid: 8, 24,
    48 for $s = 1, 2, 3$ in the plane, and with `Border.VALID` 3, 8, 15 in a corner.

    Raises:
        ValueError: `stride` below 1; in use, a grid on which the border is not defined or a unit has no neighbour.

    Source: ConPreDiff neighbourhood definition
    Unstated: what stands beyond the border; nothing (`Border.VALID`): each unit is weighed by its own neighbours.
    """

    stride: int = 3
    border: Border = Border.VALID

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise ValueError(f"stride is {self.stride}: a neighbourhood reaches at least 1 unit; give stride >= 1")

    def size(self, dimensions: int = 2) -> int:
        """Number `p` of neighbours of a unit far from every border."""
        return int((2 * self.stride + 1) ** dimensions) - 1

    def offsets(self, dimensions: int = 2) -> list[tuple[int, ...]]:
        """Displacements from a unit to its `p` neighbours, row-major."""
        reach = range(-self.stride, self.stride + 1)
        return [offset for offset in product(reach, repeat=dimensions) if any(offset)]

    def counts(self, *grid: int) -> Counts:
        """Number of neighbours of each unit of a `grid`."""
        return self._counts(self._windows(grid, torch.device("cpu")))

    def neighbours(self, *grid: int) -> NeighbourPositions:
        """Positions of all neighbours on a `grid`, `(p, *grid)`."""
        self._check(grid)
        offsets = torch.tensor(self.offsets(len(grid)))
        position, exists = torch.zeros((), dtype=torch.int64), torch.ones((), dtype=torch.bool)
        for axis, length in enumerate(grid):
            coordinate = torch.arange(length) + offsets[:, axis, None]
            inside = (coordinate >= 0) & (coordinate < length)
            shape = [len(offsets), *(length if other == axis else 1 for other in range(len(grid)))]
            position = position * length + self._fold(coordinate, length).reshape(shape)
            exists = exists & (inside if self.border is Border.VALID else torch.ones_like(inside)).reshape(shape)
        return NeighbourPositions(position.where(exists, 0), exists)

    def all_neighbours(self, values: Grid) -> Neighbours:
        """Gather every neighbour of every unit: `(b, c, *grid) -> (b, p, c, *grid)`, the `p`-fold copy."""
        b, c, *grid = values.shape
        found = self.neighbours(*grid)
        positions, exists = found.positions.to(values.device), found.exists.to(values.device)
        gathered = values.flatten(2)[:, :, positions.flatten()].reshape(b, c, len(positions), *grid).transpose(1, 2)
        return Neighbours(gathered * exists[None, :, None], exists)

    def draw(
        self, values: Grid, q: int, *, replacement: bool = True, generator: torch.Generator | None = None
    ) -> Samples:
        """Draw `q` neighbours of every unit, uniformly over its own, without building the `p`-fold copy of the grid.

        `(b, c, *grid) -> (b, q, c, *grid)`; independent draws with `replacement`, `q` different neighbours without. The
        numbers are drawn on the generator's device.

        Raises:
            ValueError: `q` below 1, or, without replacement, above the smallest neighbourhood.

        Source: ConPreDiff neighbourhood definition
        Unstated: with or without replacement; i.i.d., after the definition of an empirical measure.
        """
        b, c, *grid = values.shape
        positions = self.draw_positions(b, grid, q, replacement=replacement, device=values.device, generator=generator)
        units = math.prod(grid)
        rows = positions + units * torch.arange(b, device=values.device).reshape(b, *(1 for _ in range(len(grid) + 1)))
        drawn = values.flatten(2).transpose(1, 2).reshape(b * units, c).index_select(0, rows.flatten())
        return drawn.reshape(b, *grid, q, c).movedim((-2, -1), (1, 2))

    def draw_positions(
        self,
        b: int,
        grid: Sequence[int],
        q: int,
        *,
        replacement: bool = True,
        device: torch.device | None = None,
        generator: torch.Generator | None = None,
    ) -> Draws:
        """Draw the positions of `q` neighbours of every unit, row-major on the `grid`: `(b, *grid, q)`."""
        windows = self._windows(grid, device or torch.device("cpu"))
        counts = self._counts(windows)
        self._check_draws(q, grid, replacement)
        source = generator.device if generator is not None else counts.device
        chance = torch.randint(2**31 - 1, (b, *grid, q), device=source, generator=generator).to(counts.device)
        others = chance % counts[..., None] if replacement else _distinct(chance, counts)
        return self._position(others, windows, grid)

    def _position(self, others: Tensor, windows: list[tuple[Tensor, Tensor]], grid: Sequence[int]) -> Tensor:
        """Row-major grid position of the `others`-th member of each window, its centre left out."""
        centre = torch.zeros((), dtype=torch.int64, device=others.device)
        for axis, (low, extent) in enumerate(windows):
            centre = centre * extent + torch.arange(grid[axis], device=others.device).reshape(low.shape) - low
        rank = others + (others >= centre[..., None])
        position, volume = torch.zeros_like(rank), 1
        for (low, extent), length in reversed(list(zip(windows, grid, strict=True))):
            position += volume * self._fold(rank % extent[..., None] + low[..., None], length)
            rank, volume = rank // extent[..., None], volume * length
        return position

    def _windows(self, grid: Sequence[int], device: torch.device) -> list[tuple[Tensor, Tensor]]:
        """First coordinate and extent of each unit's window, one pair per axis, shaped to broadcast over the grid."""
        self._check(grid)
        windows = []
        for axis, length in enumerate(grid):
            shape = [length if other == axis else 1 for other in range(len(grid))]
            here = torch.arange(length, device=device).reshape(shape)
            low, high = here - self.stride, here + self.stride
            if self.border is Border.VALID:
                low, high = low.clamp(min=0), high.clamp(max=length - 1)
            windows.append((low, high - low + 1))
        return windows

    def _counts(self, windows: list[tuple[Tensor, Tensor]]) -> Tensor:
        volume = torch.ones((), dtype=torch.int64, device=windows[0][0].device)
        for _, extent in windows:
            volume = volume * extent
        return volume - 1

    def _fold(self, coordinate: Tensor, length: int) -> Tensor:
        """Bring a coordinate beyond the border back onto the axis."""
        if self.border is Border.CIRCULAR:
            return coordinate % length
        if self.border is Border.REFLECT:
            return length - 1 - (length - 1 - coordinate.abs()).abs()
        return coordinate.clamp(0, length - 1)

    def _check(self, grid: Sequence[int]) -> None:
        needed = {Border.VALID: 1, Border.REFLECT: self.stride + 1, Border.CIRCULAR: 2 * self.stride + 1}[self.border]
        if not grid or min(grid) < needed:
            raise ValueError(
                f"grid {tuple(grid)} is too small: stride {self.stride} with Border.{self.border.name} needs at least"
                f" {needed} units along every axis; lower the stride or choose Border.VALID"
            )
        if math.prod(grid) == 1:
            raise ValueError(
                f"grid {tuple(grid)} is a single unit, which has no neighbours; give a grid of at least two units"
            )

    def _check_draws(self, q: int, grid: Sequence[int], replacement: bool) -> None:
        if q < 1:
            raise ValueError(f"q is {q}: draw at least 1 neighbour")
        fewest = (
            math.prod(
                min(length, self.stride + 1) if self.border is Border.VALID else 2 * self.stride + 1 for length in grid
            )
            - 1
        )
        if not replacement and q > fewest:
            raise ValueError(
                f"q is {q}, but a unit of grid {tuple(grid)} has only {fewest} neighbours within stride {self.stride}:"
                " draw with replacement, draw fewer, or raise the stride"
            )


def _distinct(chance: Tensor, counts: Tensor) -> Tensor:
    """Turn `q` random integers per unit into `q` different members of 0 .. count - 1, every choice equally likely.

    The j-th member is the `chance % (count - j)`-th of those not yet taken: step over the taken ones in rising order.
    """
    members: list[Tensor] = []
    for j in range(chance.shape[-1]):
        member = chance[..., j] % (counts - j)
        if members:
            for taken in torch.stack(members, -1).sort(-1).values.unbind(-1):
                member = member + (member >= taken)
        members.append(member)
    return torch.stack(members, -1)

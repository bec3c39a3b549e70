"""Neighbourhoods: who stands around each unit of a grid, and draws from them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import product

import torch
from torch import Tensor

from ._types import Counts, Drawn, Draws, Existing, Grid, Masses, Ordered, Positions, Samples, Slab

DRAWS_AT_ONCE = 2**22


class Border(Enum):
    """What stands beyond the edge of the grid."""

    VALID = "nothing: a unit at the edge has fewer neighbours"
    REFLECT = "the mirror image of the grid, the edge itself not repeated"
    SYMMETRIC = "the mirror image of the grid, the edge itself repeated"
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

    @property
    def masses(self) -> Masses:
        """Mass of each neighbour in the uniform distribution over those that its unit has: `1 / count`, or 0."""
        return self.exists / self.exists.sum(0)


@dataclass(frozen=True)
class Neighbourhood:
    r"""All units within Chebyshev distance `stride`, or at one of several distances; the centre excluded.

    $N_i^s = \{ u \ne i : \max_a |u_a - i_a| \le s \}$, hence $(2s+1)^n - 1$ neighbours on an n-dimensional grid: 8, 24,
    48 for $s = 1, 2, 3$ in the plane, and with `Border.VALID` 3, 8, 15 in a corner. A tuple names rings: `(1, 3)` are
    the units at distance exactly 1 or 3, and `(1, 2, 3)` is the same as `3`. Behind a mirrored border a unit may meet
    one neighbour several times, and itself; each counts.

    Raises:
        TypeError: `stride` neither an integer nor a tuple of integers.
        ValueError: `stride` below 1, no ring or one twice; in use, a grid on which the border is not defined or some
            unit has no neighbour.

    Source: ConPreDiff neighbourhood definition, several strides
    Unstated: what stands beyond the border; nothing (`Border.VALID`): each unit is weighed by its own neighbours
        [border].
    """

    stride: int | tuple[int, ...] = 3
    border: Border = Border.VALID

    def __post_init__(self) -> None:
        rings = self.stride if isinstance(self.stride, tuple) else (self.stride,)
        if not all(isinstance(ring, int) for ring in rings):
            raise TypeError(f"stride is {self.stride!r}: give an integer, 3, or a tuple of rings, (1, 3)")
        if not rings or min(rings) < 1 or len(set(rings)) < len(rings):
            raise ValueError(
                f"stride is {self.stride}: a neighbourhood reaches at least 1 unit; give stride >= 1, or rings >= 1,"
                " each once"
            )
        if isinstance(self.stride, tuple):
            filled = len(rings) == max(rings)
            object.__setattr__(self, "stride", max(rings) if filled else tuple(sorted(rings)))

    @property
    def rings(self) -> tuple[int, ...]:
        """The Chebyshev distances at which neighbours stand, rising."""
        return self.stride if isinstance(self.stride, tuple) else tuple(range(1, self.stride + 1))

    def apart(self) -> "tuple[Neighbourhood, ...]":
        """One neighbourhood for each ring, rising: together they are this one."""
        return tuple(Neighbourhood((ring,), self.border) for ring in self.rings)

    def size(self, dimensions: int = 2) -> int:
        """Number `p` of neighbours of a unit far from every border."""
        return int(sum((2 * ring + 1) ** dimensions - (2 * ring - 1) ** dimensions for ring in self.rings))

    def offsets(self, dimensions: int = 2) -> list[tuple[int, ...]]:
        """Displacements from a unit to its `p` neighbours, row-major."""
        reach, rings = range(-self.rings[-1], self.rings[-1] + 1), set(self.rings)
        return [offset for offset in product(reach, repeat=dimensions) if max(map(abs, offset)) in rings]

    def counts(self, *grid: int) -> Counts:
        """Number of neighbours of each unit of a `grid`."""
        kinds = self._kinds(grid)
        return kinds.counts[kinds.of_units].reshape(grid)

    def neighbours(self, *grid: int) -> NeighbourPositions:
        """Positions of all neighbours on a `grid`, `(p, *grid)`."""
        self._kinds(grid)
        return self._around([torch.arange(length) for length in grid], grid)

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
        Source: NWR-GAE sampling of neighbours
        Unstated: with or without replacement; i.i.d., after the definition of an empirical measure [replacement].
        """
        b, _, *grid = values.shape
        positions = self.draw_positions(b, grid, q, replacement=replacement, device=values.device, generator=generator)
        return gather(values, positions)

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
        """Draw the positions of `q` neighbours of every unit, row-major on the `grid`: `(b, *grid, q)`.

        For a grid too large to gather at once, draw its positions, 8 bytes each, and `gather` a slab at a time.
        """
        kinds = self._kinds(grid)
        self._check_draws(q, grid, int(kinds.counts.min()), replacement)
        device = device or torch.device("cpu")
        source = device if generator is None else generator.device
        drawn = torch.randint(2**31 - 1, (b, *grid, q), device=source, generator=generator).to(device)
        of_units, counts, steps = kinds.of_units.to(device), kinds.counts.to(device), kinds.steps.to(device)
        units, at_once = math.prod(grid), max(1, DRAWS_AT_ONCE // max(1, b * q))
        for start in range(0, units, at_once):
            chance = drawn.view(b, units, q)[:, start : start + at_once]
            here = torch.arange(start, start + chance.shape[1], device=device)[:, None]
            kind = of_units[here]
            others = chance.remainder_(counts[kind]) if replacement else _distinct(chance, counts[kind])
            chance.copy_(steps.take(others.add_(steps.shape[1] * kind))).add_(here)
        return drawn

    def _around(self, coordinates: Sequence[Tensor], grid: Sequence[int]) -> NeighbourPositions:
        """Neighbours of the units at every combination of the axes' `coordinates`."""
        offsets = torch.tensor(self.offsets(len(grid)))
        position, exists = torch.zeros((), dtype=torch.int64), torch.ones((), dtype=torch.bool)
        for axis, (length, here) in enumerate(zip(grid, coordinates, strict=True)):
            coordinate = here + offsets[:, axis, None]
            inside = (coordinate >= 0) & (coordinate < length)
            shape = [len(offsets), *(len(here) if other == axis else 1 for other in range(len(grid)))]
            position = position * length + self._fold(coordinate, length).reshape(shape)
            exists = exists & (inside if self.border is Border.VALID else torch.ones_like(inside)).reshape(shape)
        return NeighbourPositions(position.where(exists, 0), exists)

    def _kinds(self, grid: Sequence[int]) -> "_Kinds":
        """Sort the units of a `grid` by their distances from its edges; follow one of each kind to its neighbours."""
        self._check(grid)
        reach = self.rings[-1]
        examples = [torch.tensor(sorted({*range(min(reach + 1, n)), *range(max(n - reach, 0), n)})) for n in grid]
        found = self._around(examples, grid)
        existing_first = found.exists.flatten(1).logical_not().byte().sort(dim=0, stable=True).indices
        steps = found.positions.flatten(1).gather(0, existing_first) - _row_major(examples, grid)
        kinds = [torch.bucketize(torch.arange(n), of, right=True) - 1 for n, of in zip(grid, examples, strict=True)]
        of_units = _row_major(kinds, [len(of) for of in examples])
        sorted_units = _Kinds(of_units, found.exists.flatten(1).sum(0), steps.T.contiguous())
        self._check_counts(sorted_units, grid)
        return sorted_units

    def _fold(self, coordinate: Tensor, length: int) -> Tensor:
        """Bring a coordinate beyond the border back onto the axis."""
        match self.border:
            case Border.CIRCULAR:
                return coordinate % length
            case Border.REFLECT:
                return length - 1 - (length - 1 - coordinate.abs()).abs()
            case Border.SYMMETRIC:
                beyond = coordinate.maximum(-1 - coordinate)
                return beyond.minimum(2 * length - 1 - beyond)
            case Border.VALID:
                return coordinate.clamp(0, length - 1)

    def _check(self, grid: Sequence[int]) -> None:
        reach = self.rings[-1]
        needed = {Border.VALID: 1, Border.REFLECT: reach + 1, Border.SYMMETRIC: reach, Border.CIRCULAR: 2 * reach + 1}
        if not grid or min(grid) < needed[self.border]:
            raise ValueError(
                f"grid {tuple(grid)} is too small: {self._named()} with Border.{self.border.name} needs at least"
                f" {needed[self.border]} units along every axis; lower the stride or choose Border.VALID"
            )
        if math.prod(grid) == 1:
            raise ValueError(
                f"grid {tuple(grid)} is a single unit, which has no neighbours; give a grid of at least two units"
            )

    def _check_counts(self, kinds: "_Kinds", grid: Sequence[int]) -> None:
        if kinds.counts.all():
            return
        alone = (kinds.of_units == kinds.counts.argmin()).nonzero()[0, 0]
        unit = tuple(int(here) for here in torch.unravel_index(alone, tuple(grid)))
        raise ValueError(
            f"grid {tuple(grid)} is too small: unit {unit} has no neighbour within {self._named()} and"
            f" Border.{self.border.name}; give at least {2 * self.rings[0]} units along some axis, or a nearer ring"
        )

    def _check_draws(self, q: int, grid: Sequence[int], fewest: int, replacement: bool) -> None:
        if q < 1:
            raise ValueError(f"q is {q}: draw at least 1 neighbour")
        if not replacement and q > fewest:
            raise ValueError(
                f"q is {q}, but a unit of grid {tuple(grid)} has only {fewest} neighbours within {self._named()}:"
                " draw with replacement, draw fewer, or raise the stride"
            )

    def _named(self) -> str:
        return f"{'rings' if isinstance(self.stride, tuple) else 'stride'} {self.stride}"


@dataclass(frozen=True)
class _Kinds:
    """Units at equal distances from the edges are of one kind: they have the same neighbours, each moved along.

    The kind of each unit, row-major; and, for each kind, the number of its neighbours and the row-major steps from a
    unit to each of them, `(kinds, p)`, those that exist first.
    """

    of_units: Tensor
    counts: Tensor
    steps: Tensor


def gather(values: Grid, positions: Slab) -> Drawn:
    """Gather the vectors at row-major positions of a grid: `(b, c, *grid), (b, *units, q) -> (b, q, c, *units)`.

    `positions` are those of `Neighbourhood.draw_positions`, or a slab of them: `positions[:, 128:256]` gives the
    draws of 128 rows of units. A gradient flows back to `values`.
    """
    b, c, *grid = values.shape
    example = torch.arange(b, device=values.device).reshape(b, *(1 for _ in positions.shape[1:]))
    rows = (positions + math.prod(grid) * example).flatten()
    drawn = values.flatten(2).transpose(1, 2).reshape(-1, c).index_select(0, rows)
    return drawn.reshape(*positions.shape, c).movedim((-2, -1), (1, 2))


def _row_major(coordinates: Sequence[Tensor], lengths: Sequence[int]) -> Tensor:
    """Row-major positions of every combination of the axes' coordinates."""
    positions = torch.zeros(1, dtype=torch.int64)
    for here, length in zip(coordinates, lengths, strict=True):
        positions = (positions[:, None] * length + here).flatten()
    return positions


def _distinct(chance: Tensor, counts: Tensor) -> Tensor:
    """Turn `q` random integers per unit into `q` different members of 0 .. count - 1, every choice equally likely.

    The j-th member is the `chance % (count - j)`-th of those not yet taken: step over the taken ones in rising order.
    """
    members: list[Tensor] = []
    taken: list[Tensor] = []
    for j in range(chance.shape[-1]):
        member = chance[..., j, None] % (counts - j)
        for smaller in taken:
            member += member >= smaller
        members.append(member)
        for k, other in enumerate(taken):
            taken[k], member = other.minimum(member), other.maximum(member)
        taken.append(member)
    return torch.cat(members, -1)

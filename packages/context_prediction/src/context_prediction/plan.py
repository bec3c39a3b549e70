"""Exact transport plans between sets of unequal sizes or masses, by POT."""

import torch
from jaxtyping import Float
from torch import Tensor

from .optional import optional

UnequalCosts = Float[Tensor, "*units q r"]
LeftMass = Float[Tensor, "*#units q"]
RightMass = Float[Tensor, "*#units r"]
Plans = Float[Tensor, "*units q r"]


def transport_plan(cost: UnequalCosts, a_mass: LeftMass | None = None, b_mass: RightMass | None = None) -> Plans:
    r"""Move the masses of one set to those of another at the least total cost, for any number of problems.

    $P^* = \arg\min_P \sum_{jk} P_{jk} C_{jk}$ over $P \ge 0$ with row sums `a_mass` and column sums `b_mass`, for each
    of the `(..., q, r)` costs. Masses `(..., q)` and `(..., r)` are divided by their sum, and are uniform where
    they are not given; a mass of zero leaves a point out. Solved one by one, in double precision, on the CPU,
    by the network simplex of POT, which the extra `ot` installs. The plan carries no gradient.

    Raises:
        ValueError: a cost that is not finite; masses that are negative, not finite, all zero, or of another shape.
        ImportError: POT is not installed.
        RuntimeError: POT did not reach the optimum.
    """
    solve = optional("ot.lp", "ot", "transport between sets of unequal sizes or masses").emd
    if cost.numel() and not all(extreme.isfinite() for extreme in torch.aminmax(cost.detach())):
        raise ValueError(
            f"cost {tuple(cost.shape)} holds values that are not finite; look for overflow or NaN in its origin"
        )
    rows, columns = (
        _shares(name, mass, cost.shape[:-2], size)
        for name, mass, size in (("a_mass", a_mass, cost.shape[-2]), ("b_mass", b_mass, cost.shape[-1]))
    )
    problems = cost.detach().double().cpu().reshape(-1, *cost.shape[-2:])
    plans = torch.empty_like(problems)
    for plan, problem, a, b in zip(plans, problems, rows, columns, strict=True):
        solved, log = solve(a.numpy(), b.numpy(), problem.numpy(), numItermax=10_000_000, log=True)
        if log["warning"]:
            raise RuntimeError(f"POT did not solve a transport problem of {tuple(problem.shape)}: {log['warning']}")
        plan.copy_(torch.from_numpy(solved))
    return plans.reshape(cost.shape).to(cost)


def _shares(name: str, mass: Tensor | None, units: torch.Size, size: int) -> Tensor:
    """Masses `(problems, size)` that sum to one."""
    if mass is None:
        return torch.full((units.numel(), size), 1 / size, dtype=torch.float64)
    if mass.ndim < 1 or mass.shape[-1] != size:
        raise ValueError(f"{name} has shape {tuple(mass.shape)}: give one mass for each of the {size} vectors of a set")
    mass = mass.detach().double().cpu()
    total = mass.sum(-1, keepdim=True)
    if not (mass.isfinite().all() and (mass >= 0).all() and (total > 0).all()):
        raise ValueError(
            f"{name} {tuple(mass.shape)} has masses that are negative or not finite, or sets without any; give masses"
            " of at least 0 with a positive sum"
        )
    return (mass / total).expand(*units, size).reshape(-1, size)

"""The assignment engines beside a SciPy loop and a POT loop, after a check that all find the same least totals.

python benchmarks/matching.py [--repeats N] [--problems N] [--threads N] [--sizes Q ...] [--kind uniform|distances]

Loops over single problems, and the batched engine on a CPU, are timed on a part of the problems and scaled up; the
report says so. On CUDA there are rows for Triton, batched torch and, where it is installed, torch-linear-assignment.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from timing import interleave, report
from torch import Tensor

from context_prediction import linear_assignment
from context_prediction.assignment import numba_threads, permutations, scipy_loop, torch_batched, triton_programs
from context_prediction.assignment.programs import LARGEST_PROGRAM, triton_is_usable
from context_prediction.assignment.threads import NUMBA_IS_INSTALLED

BASELINE = "SciPy loop"
SHARES = {"POT emd2 loop": 16, "batched torch": 16}
SMALLEST_PART = 64


def costs(kind: str, problems: int, q: int) -> Tensor:
    generator = torch.Generator().manual_seed(q)
    if kind == "uniform":
        return torch.rand(problems, q, q, generator=generator)
    return torch.cdist(*torch.randn(2, problems, q, 3, generator=generator)) ** 2


def bare_loop(cost: Tensor) -> Tensor:
    return torch.from_numpy(np.array([linear_sum_assignment(problem)[1] for problem in cost.numpy()]))


def pot_loop() -> Callable[[Tensor], Tensor]:
    import ot

    def solve(cost: Tensor) -> Tensor:
        problems = cost.double().numpy()
        means = [ot.emd2([], [], problem) for problem in problems]
        return torch.tensor(means, dtype=torch.float64) * cost.shape[-1]

    return solve


def on_cpu(q: int) -> dict[str, Callable[[Tensor], Tensor]]:
    engines: dict[str, Callable[[Tensor], Tensor]] = {BASELINE: bare_loop, "linear_assignment": linear_assignment}
    if NUMBA_IS_INSTALLED:
        engines["numba threads"] = engine(numba_threads)
    engines["SciPy engine"] = engine(scipy_loop)
    if q <= 5:
        engines["permutations"] = engine(permutations)
    return {**engines, "batched torch": engine(torch_batched), "POT emd2 loop": pot_loop()}


def on_cuda(q: int) -> dict[str, Callable[[Tensor], Tensor]]:
    engines: dict[str, Callable[[Tensor], Tensor]] = {"batched torch, CUDA": engine(torch_batched)}
    if triton_is_usable() and q <= LARGEST_PROGRAM:
        engines["Triton, CUDA"] = engine(triton_programs)
    if q <= 5:
        engines["permutations, CUDA"] = engine(permutations)
    try:
        from torch_linear_assignment import batch_linear_assignment
    except ImportError:
        return engines
    return {**engines, "torch-linear-assignment, CUDA": batch_linear_assignment}


def engine(solve: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda cost: linear_assignment(cost, engine=solve)


def totals(cost: Tensor, answer: Tensor) -> Tensor:
    """Totals of matchings, or, of a peer that gives none, its own."""
    if answer.is_floating_point():
        return answer
    return cost.double().gather(2, answer.to(cost.device)[..., None]).sum((1, 2))


def check(engines: Mapping[str, Callable[[Tensor], Tensor]], cost: Tensor) -> None:
    expected = totals(cost, bare_loop(cost.cpu())).cpu()
    for name, solve in engines.items():
        found = totals(cost, solve(cost)).cpu()
        torch.testing.assert_close(
            found.double(), expected, rtol=1e-9, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}"
        )


def measure(q: int, *, kind: str, problems: int, repeats: int) -> None:
    cost, calls, scales = costs(kind, problems, q), {}, {}
    for device, engines in [("cpu", on_cpu(q)), *([("cuda", on_cuda(q))] if torch.cuda.is_available() else [])]:
        check(engines, cost[:SMALLEST_PART].to(device))
        there = cost.to(device)
        for name, solve in engines.items():
            part = min(problems, max(SMALLEST_PART, problems // SHARES.get(name, 1)))
            title = name if part == problems else f"{name} (measured on {part:,} problems, scaled up)"
            calls[title] = lambda solve=solve, costs=there[:part]: solve(costs)
            scales[title] = problems / part
    seconds = interleave(calls, repeats=repeats, warmup=1)
    times = {name: [second * scales[name] for second in measured] for name, measured in seconds.items()}
    title = f"Assignment, q = {q}, {problems:,} problems, {kind}"
    notes = "float32; equal least totals checked first"
    report(f"matching-{kind}-q{q}", title, times, baseline=BASELINE, notes=notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--problems", type=int, default=65_536)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="+", default=[4, 5, 9, 24, 48])
    parser.add_argument("--kind", choices=["uniform", "distances"], default="uniform")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for q in options.sizes:
        measure(q, kind=options.kind, problems=options.problems, repeats=options.repeats)


if __name__ == "__main__":
    main()

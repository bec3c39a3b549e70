"""The assignment engine for CUDA: a Triton kernel, one program for each problem."""

from functools import lru_cache

import torch
from torch import Tensor

LARGEST_PROGRAM = 128


def triton_programs(cost: Tensor) -> Tensor:
    r"""Solve the problems `(n, q, q)` on the GPU that holds them, a warp to each, with float64 prices in its registers.

    The algorithm and its choices are those of `numba_threads`, ties included. Time $O(q^3 / 32)$ a problem; no memory
    but the costs and the matchings. Chosen on CUDA for q from 6 to 128 where Triton is installed.

    Raises:
        ImportError: Triton is not installed.
        ValueError: costs that are not on a CUDA device; q above 128.
    """
    try:
        import triton  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise ImportError("triton_programs needs Triton, which torch brings along in its builds for CUDA") from error
    from .triton_kernel import solve

    n, q = cost.shape[:2]
    interpreted = not isinstance(solve, triton.runtime.JITFunction)
    if not (cost.is_cuda or interpreted):
        raise ValueError(f"cost is on {cost.device}, Triton solves on CUDA: leave out engine, or name another")
    if q > LARGEST_PROGRAM:
        raise ValueError(f"cost {tuple(cost.shape)} has q above {LARGEST_PROGRAM}: leave out engine, or name another")
    narrow = cost.dtype not in (torch.float32, torch.float64)
    problems = cost.detach().to(torch.float32 if narrow else cost.dtype).contiguous()
    matching = torch.empty(n, q, dtype=torch.int64, device=cost.device)
    if n:
        with torch.cuda.device(cost.device) if cost.is_cuda else torch.no_grad():
            solve[(n,)](problems, matching, q, WIDTH=triton.next_power_of_2(q), num_warps=1, enable_fp_fusion=False)
    return matching


@lru_cache
def triton_is_usable() -> bool:
    """Whether Triton is installed, with all that it needs itself."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True

"""The assignment engine for the CPU: a compiled kernel, on as many threads as torch uses."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from context_prediction.optional import optional

NUMBA_IS_INSTALLED = find_spec("numba") is not None
WORTH_A_THREAD = 2_000_000
BLOCKS_A_THREAD = 4


def numba_threads(cost: Tensor) -> Tensor:
    r"""Solve the problems `(n, q, q)` with a kernel compiled by numba, on `torch.get_num_threads()` threads.

    Shortest augmenting paths after column reduction, with float64 prices, vectorised over columns. Time $O(n q^3)$
    divided by the threads; memory that of the costs, and $8 q^2$ bytes a thread. The threads live as long as the call
    and share nothing, so it may be called from several threads and after a fork. The first call takes seconds to
    compile, or less where numba finds its cache on disk. Chosen on the CPU for q above 4 where numba is
    installed.

    Raises:
        ImportError: numba is not installed.
        ValueError: no matching of finite cost was found.
    """
    optional("numba", "fast", "numba_threads")
    from .numba_kernel import solve

    narrow = cost.dtype not in (torch.float32, torch.float64)
    problems = cost.detach().cpu().to(torch.float32 if narrow else cost.dtype).contiguous().numpy()
    columns = np.empty(problems.shape[:2], dtype=np.int64)
    n, q = cost.shape[:2]
    threads = min(torch.get_num_threads(), 1 + n * q**3 // WORTH_A_THREAD)
    finite = solve(problems, columns) if threads == 1 else _side_by_side(solve, problems, columns, threads)
    if not finite:
        raise ValueError(f"cost {tuple(cost.shape)} holds values that are not finite; linear_assignment refuses them")
    return torch.from_numpy(columns).to(cost.device)


def _side_by_side(solve: Callable[[Any, Any], bool], problems: Any, columns: Any, threads: int) -> bool:  # noqa: ANN401
    """Solve blocks of problems on the calling thread and as many others as are missing, each taking the next block."""
    blocks = threads * BLOCKS_A_THREAD
    waiting = deque(zip(np.array_split(problems, blocks), np.array_split(columns, blocks), strict=True))

    def work() -> bool:
        finite = True
        while finite:
            try:
                block = waiting.popleft()
            except IndexError:
                return True
            finite = solve(*block)
        return False

    with ThreadPoolExecutor(threads - 1) as pool:
        others = [pool.submit(work) for _ in range(threads - 1)]
        return work() and all(other.result() for other in others)

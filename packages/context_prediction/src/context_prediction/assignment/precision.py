"""The arithmetic in which every engine compares totals."""

from torch import Tensor


def in_double(cost: Tensor) -> Tensor:
    """Costs in float64, detached, on their own device or, where that has no float64, on the CPU.

    Sums and differences of float32, bfloat16, float16 or integer-valued costs are exact in float64 unless the entries
    of one problem differ by more than about seven orders of magnitude; beyond, totals agree to a few parts in 10^16.
    """
    return (cost.cpu() if cost.device.type == "mps" else cost).detach().double()

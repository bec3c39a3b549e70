"""What a plan costs before any of it is run: operations, memory, storage and time, counted without any of them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from reproductions.loop.steps import TrainingSettings

Size = Mapping[str, int]
Build = Callable[[], nn.Module]
Example = Callable[[], tuple[Any, ...]]
WEIGHT = 4
"""Bytes of a weight; AdamW keeps two more numbers of it, and there is its gradient."""
MOMENTS, GRADIENT = 2 * WEIGHT, WEIGHT
STORED = 8
"""Bytes of a number of a sample, at most."""
ACHIEVED = 1e14
GIB = 2**30
COUNTED: dict[str, int] = {}
"""What `once` has counted."""


@dataclass(frozen=True)
class Machine:
    """What a plan is to be run on: devices side by side, and the operations a second that each achieves.

    Unstated: the operations; 1e14 a second, about a third of the peak of an A100 in bf16.
    """

    devices: int = 1
    achieved: float = ACHIEVED

    def check(self) -> None:
        """Raise ValueError where it is none."""
        if self.devices < 1:
            raise ValueError(f"--devices must be at least 1, got {self.devices}")
        if not self.achieved > 0:
            raise ValueError(f"--achieved must be positive, got {self.achieved}: operations a second of one device")

    def hours(self, operations: int) -> float:
        """Device-hours for so many floating-point operations."""
        return operations / self.achieved / 3600


def training(
    build: Callable[[], nn.Module], example: Callable[[], tuple[Any, ...]], settings: TrainingSettings
) -> Size:
    """Parameters, steps, operations of all of them, and bytes: of the state, of an example, and of what is written.

    build: the network; example: what it is given for one picture. Both are made on tensors without memory. Operations
    are those of the network forwards and backwards, a multiplication and an addition being two; the bytes of an example
    are what is kept for the way back, with attention as kernels keep it.
    """
    network, given = without_memory(build, example)
    parameters = sum(each.numel() for each in network.parameters())
    averaged = WEIGHT if settings.ema else 0
    return {
        "parameters": parameters,
        "steps": settings.steps,
        "flops": once(operations, network, given) * settings.batch * settings.steps,
        "state bytes": parameters * (WEIGHT + GRADIENT + MOMENTS + averaged),
        "example bytes": once(kept_bytes, network, given) // (2 if settings.precision == "bf16" else 1),
        "batch": settings.batch,
        "stored bytes": parameters * (2 * WEIGHT + MOMENTS + averaged),
    }


def sampling(build: Build, example: Example, *, samples: int, calls: int, numbers: int) -> Size:
    """Operations of drawing so many samples in so many calls each, and bytes of what is written.

    numbers: that a sample has.
    """
    network, given = without_memory(build, example)
    flops = once(forward_operations, network, given) * samples * calls
    return {"flops": flops, "stored bytes": samples * numbers * STORED}


def without_memory(build: Build, example: Example) -> tuple[nn.Module, tuple[Any, ...]]:
    """A network and what it is given, shapes alone."""
    with torch.device("meta"):
        return build(), example()


def once(count: Callable[[nn.Module, tuple[Any, ...]], int], network: nn.Module, given: tuple[Any, ...]) -> int:
    """What `count` gives, which takes seconds, for a network; of several that are alike, as rows and seeds are, once.

    Networks are alike whose layers, parameters and examples have the same shapes.
    """
    shapes = [(name, tuple(each.shape)) for name, each in network.named_parameters()]
    likeness = f"{count.__name__} {network} {shapes} {given}"
    if likeness not in COUNTED:
        COUNTED[likeness] = count(network, given)
    return COUNTED[likeness]


def forward_operations(network: nn.Module, given: tuple[Any, ...]) -> int:
    """Floating-point operations of one example forwards."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(*given)
    return int(counter.get_total_flops())


def operations(network: nn.Module, given: tuple[Any, ...]) -> int:
    """Floating-point operations of a step with one example, forwards and backwards."""
    counter = FlopCounterMode(display=False)
    with counter:
        total(network(*given)).backward()
    return int(counter.get_total_flops())


def kept_bytes(network: nn.Module, given: tuple[Any, ...]) -> int:
    """Bytes of the different tensors that one example leaves for the way back, parameters apart."""
    own = {each.untyped_storage()._cdata for each in network.parameters()}
    found: dict[int, int] = {}
    alive: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            found[storage._cdata] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with lean_attention(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        total(network(*given))
    return sum(found.values())


def total(answer: Any) -> Tensor:
    """A number that depends on all that a network answers."""
    if isinstance(answer, Tensor):
        return answer.sum()
    parts = [each for each in vars(answer).values() if isinstance(each, Tensor)]
    return torch.stack([each.sum() for each in parts]).sum()


class Attention(torch.autograd.Function):
    """Attention that keeps queries, keys, values and its answer, as kernels do that never write the scores."""

    @staticmethod
    def forward(context: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        answer = q.new_empty(*q.shape[:-1], v.shape[-1])
        context.save_for_backward(q, k, v, answer)
        return answer

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        q, k, v, _ = context.saved_tensors
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


@contextmanager
def lean_attention() -> Iterator[None]:
    """Let attention keep what kernels keep; for tensors without memory alone."""

    def lean(q: Tensor, k: Tensor, v: Tensor, *rest: Any, **more: Any) -> Tensor:
        found: Tensor = Attention.apply(q, k, v)
        return found

    real = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = lean
    try:
        yield
    finally:
        F.scaled_dot_product_attention = real


def lines(sizes: Mapping[str, Size], machine: Machine) -> list[str]:
    """What stages, by name, cost on a machine: a line for each, then all together."""
    wide = max(map(len, sizes), default=0)
    rows = [f"{'stage':{wide}}  {'FLOPs':>9}  {'memory a device':>15}  {'storage':>9}  {'device-hours':>12}"]
    rows.append("-" * len(rows[0]))
    for name, size in sizes.items():
        if not {"flops", "stored bytes"} & size.keys():
            continue
        flops, stored = size.get("flops", 0), size.get("stored bytes", 0)
        share = -(-size.get("batch", 0) // machine.devices)
        memory = size.get("state bytes", 0) + share * size.get("example bytes", 0)
        cells = [f"{flops:9.2e}" if flops else " " * 9, _gib(memory, 15), _gib(stored, 9)]
        rows.append("  ".join([f"{name:{wide}}", *cells, f"{machine.hours(flops):12,.1f}" if flops else ""]).rstrip())
    flops = sum(size.get("flops", 0) for size in sizes.values())
    stored = sum(size.get("stored bytes", 0) for size in sizes.values())
    hours = machine.hours(flops)
    days = hours / 24 / machine.devices
    rows.append(
        f"networks alone: {flops:.2e} FLOPs, {stored / GIB:,.1f} GiB of storage, {hours:,.0f} device-hours at "
        f"{machine.achieved:.1e} FLOP/s a device (--achieved): {days:,.1f} days on {machine.devices} (--devices)"
    )
    return rows


def _gib(number: int, wide: int) -> str:
    return f"{number / GIB:{wide - 4},.1f} GiB" if number else " " * wide

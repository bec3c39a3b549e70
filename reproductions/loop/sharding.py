"""FSDP: weights, gradients and moments parted between ranks, and whole again where they are saved."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.torch_version import TorchVersion

AVERAGING = "2.9"
"""The torch whose ranks average gradients on processors, too."""


def shard(module: nn.Module, device: torch.device) -> None:
    """Part a module between all ranks in place, unit by unit; what is in none is gathered for the whole of a step.

    The buffers that are saved are the first rank's at every step, as under DDP. `state_dict` gathers, on all ranks at
    once, and is whole on the first rank and empty elsewhere; `load_state_dict` takes what is whole, on every rank.

    Raises:
        ValueError: on processors, for a torch whose gradients are wrong there.
    """
    check_averaging(device)
    kept = module.state_dict()
    buffers = [buffer for name, buffer in module.named_buffers() if name in kept]
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for unit in reversed([*units(module)]):
        fully_shard(unit, mesh=mesh)
    fully_shard(module, mesh=mesh)

    def agree(*_: Any) -> None:
        for buffer in buffers:
            dist.broadcast(buffer, 0)

    def gather(_: nn.Module, state: dict[str, Any], *__: Any) -> None:
        state.update({name: saved(value) for name, value in state.items()})

    def part(module: nn.Module, state: dict[str, Any], *_: Any) -> None:
        state.update({name: parted_as(state[name], each) for name, each in module.named_parameters() if name in state})

    module.register_forward_pre_hook(agree)
    module.register_state_dict_post_hook(gather)
    module.register_load_state_dict_pre_hook(part)


def check_averaging(device: torch.device) -> None:
    """Raise ValueError on processors, for a torch whose gradients are wrong there."""
    if device.type == "cpu" and TorchVersion(torch.__version__) < AVERAGING:
        raise ValueError(
            f"FSDP on processors needs torch {AVERAGING} or later: torch {torch.__version__} adds up the gradients of "
            "ranks there where it should average them, or fails; update it, or let every rank keep whole networks"
        )


def units(module: nn.Module) -> Iterator[nn.Module]:
    """The elements of its lists of layers, outer ones before those within.

    The weights of a unit are there while its `forward` runs. So an element that can be asked for anything else is
    none itself, but those of its parts are that cannot.
    """
    for layers in module.modules():
        if isinstance(layers, nn.ModuleList):
            for layer in layers:
                yield from _closed(layer)


def _closed(module: nn.Module) -> Iterator[nn.Module]:
    if all(_only_forward(type(part)) for part in module.modules()):
        yield module
    else:
        for child in module.children():
            if not _of_torch(type(child)):  # whose weights are often used without it
                yield from _closed(child)


def _only_forward(kind: type[nn.Module]) -> bool:
    names = (
        name for each in kind.__mro__ if not _of_torch(each) for name, value in vars(each).items() if _asked(value)
    )
    return all(name.startswith("_") or name == "forward" for name in names)


def _asked(value: object) -> bool:
    return callable(value) or isinstance(value, property | classmethod | staticmethod)


def _of_torch(kind: type) -> bool:
    return kind.__module__.split(".")[0] == "torch"


def shard_moments(optimiser: torch.optim.Optimizer) -> None:
    """Let the state of an optimiser of parted weights be whole where it is saved, as that of the module is."""
    ways = [group["foreach"] for group in optimiser.param_groups]

    def gather(_: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        moments = {i: {name: saved(value) for name, value in each.items()} for i, each in state["state"].items()}
        return {**state, "state": moments, "param_groups": _done(state, [None] * len(ways))}

    def part(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        of = dict(enumerate(each for group in optimiser.param_groups for each in group["params"]))
        moments = {
            i: {name: value if name == "step" else parted_as(value, of[i]) for name, value in each.items()}
            for i, each in state["state"].items()
        }
        return {**state, "state": moments, "param_groups": _done(state, ways)}

    optimiser.register_state_dict_post_hook(gather)
    optimiser.register_load_state_dict_pre_hook(part)


def _done(state: dict[str, Any], ways: Sequence[bool | None]) -> list[dict[str, Any]]:
    return [{**group, "foreach": way} for group, way in zip(state["param_groups"], ways, strict=True)]


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor that is parted, or the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """A tensor that is parted, gathered from all ranks at once into memory of its own size; or the tensor."""
    return tensor.full_tensor().clone() if isinstance(tensor, DTensor) else tensor


def saved(value: Any) -> Any:
    """A tensor that is parted, whole in the first rank's memory (on others: nothing); all else as it is."""
    if not isinstance(value, DTensor):
        return value
    gathered = value.full_tensor()
    return gathered.to("cpu", copy=True) if dist.get_rank() == 0 else torch.empty(0)


def parted_as(tensor: Tensor, other: Tensor) -> Tensor:
    """A tensor that every rank has, parted as `other` is."""
    if not isinstance(other, DTensor):
        return tensor
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)

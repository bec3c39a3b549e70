"""Averaged weights, and modules that are made of them."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from reproductions.loop.sharding import local, parted_as, saved


class Average:
    """Exponential moving average of a module's weights, kept as these are, whole or parted; part of every checkpoint.

    Its decay ramps up as `(1 + i) / (10 + i)`, i being the number of updates; the first one copies.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.current = dict(module.named_parameters())
        self.values = {name: parameter.detach().clone() for name, parameter in self.current.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the weights as they are now."""
        averaged, current = ([local(each) for each in part.values()] for part in (self.values, self.current))
        if self.updates == 0:
            torch._foreach_copy_(averaged, current)
        else:
            beta = min(self.decay, (1 + self.updates) / (10 + self.updates))
            torch._foreach_lerp_(averaged, current, 1 - beta)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "values": {name: saved(value) for name, value in self.values.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        for name, value in self.values.items():
            value.copy_(parted_as(state["values"][name], value))


def made_of(values: Iterable[Tensor], module: nn.Module) -> nn.Module:
    """A copy of `module` whose parameters are these tensors, and whose buffers are those of `module`, all uncopied."""
    parameters = list(module.parameters())
    made = [nn.Parameter(v, p.requires_grad) for v, p in zip(values, parameters, strict=True)]
    memo: dict[int, Any] = {id(p): new for p, new in zip(parameters, made, strict=True)}
    return copy.deepcopy(module, memo | {id(buffer): buffer for buffer in module.buffers()})


def hollow(module: nn.Module) -> nn.Module:
    """The same without values of parameters, which `made_of` gives it; its buffers are those of `module`."""
    return made_of([torch.empty_like(each, device="meta") for each in module.parameters()], module)

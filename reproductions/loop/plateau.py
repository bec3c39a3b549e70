"""A learning rate that falls where the loss stays on a plateau."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor


@dataclass(frozen=True)
class Plateau:
    """When the rate falls: after `patience` samples in which the loss did not fall by the share `threshold`.

    It is multiplied by `factor` then, and `least` is the smallest that it comes to.

    Source: VQ-Diffusion training recipe
    """

    patience: int
    threshold: float = 0.1
    factor: float = 0.5
    least: float = 1e-6


class PlateauRate:
    """The learning rate under a `Plateau`; part of every checkpoint.

    Deviation: the loss that is watched is the mean of `every` steps over all ranks, which is asked of the device once;
    the released code watches that of each step on each device.
    Unstated: whether the warm-up counts; the best loss is looked for from its end.
    """

    def __init__(self, plateau: Plateau, *, batch: int, first: int, every: int) -> None:
        self.plateau, self.batch, self.first, self.every = plateau, batch, first, every
        self.best, self.since, self.scale = math.inf, first, 1.0
        self.sum: Tensor | None = None
        self.count = 0

    def __call__(self, rate: float) -> float:
        """The rate now, for what it would be without plateaus."""
        return rate if self.scale == 1 else max(self.plateau.least, rate * self.scale)

    def watch(self, loss: Tensor, index: int, accelerator: Accelerator) -> None:
        """See the loss (a number) of step `index`."""
        if index < self.first:
            return
        loss = loss.detach().float()
        self.sum = loss if self.sum is None else self.sum + loss
        self.count += 1
        if self.count < self.every:
            return
        mean: Any = self.sum / self.count
        if accelerator.num_processes > 1:
            mean = accelerator.reduce(mean, "mean")
        self.sum, self.count = None, 0
        self._judge(float(mean), index + 1)

    def _judge(self, mean: float, done: int) -> None:
        if mean < self.best * (1 - self.plateau.threshold):
            self.best, self.since = mean, done
        elif (done - self.since) * self.batch > self.plateau.patience:
            self.scale, self.since = self.scale * self.plateau.factor, done

    def state_dict(self) -> dict[str, Any]:
        total = torch.zeros(()) if self.sum is None else self.sum
        return {"best": self.best, "since": self.since, "scale": self.scale, "sum": total, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.since, self.scale, self.count = (state[name] for name in ("best", "since", "scale", "count"))
        self.sum = state["sum"] if self.count else None

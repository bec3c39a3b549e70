"""What a training logs."""

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor


class History:
    """The means of the logged terms; part of every checkpoint."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    @property
    def last(self) -> Mapping[str, float]:
        return self.rows[-1] if self.rows else {}

    def add(self, terms: Mapping[str, Tensor]) -> None:
        for name, value in terms.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.count += 1

    def close(self, step: int, accelerator: Accelerator) -> Mapping[str, float]:
        """The means since the last time, over all ranks."""
        if accelerator.num_processes > 1:
            sums: Any = accelerator.reduce(torch.stack(list(self.sums.values())), "mean")
            self.sums = dict(zip(self.sums, sums, strict=True))
        means = {name: float(total) / self.count for name, total in self.sums.items()}
        self.rows.append({"step": step, **means})
        self.sums, self.count = {}, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "sums": self.sums, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows, self.sums, self.count = state["rows"], state["sums"], state["count"]

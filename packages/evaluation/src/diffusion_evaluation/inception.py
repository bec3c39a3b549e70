"""The Inception network of the Frechet inception distance, under the key names of its PyTorch conversions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d


class Convolution(nn.Module):
    """A convolution without bias, batch normalisation and a rectifier."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, *, pad: bool = True
    ) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if pad else 0
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Activations at the new width."""
        activations: Tensor = nn.functional.relu(self.bn(self.conv(x)))
        return activations


Step = tuple[str, int, int | tuple[int, int]]
_WIDE, _TALL = (1, 7), (7, 1)


class Mixed(nn.Module):
    """Branches side by side: chains of convolutions, the last optionally split into a wide and a tall one, and a pool.

    A step is (suffix of the name, width, kernel). A chain that ends in a list of steps gives all their outputs.
    With `shrink`, the last convolution of every chain and the pool have stride 2 and no padding.
    """

    def __init__(
        self,
        inputs: int,
        chains: Sequence[Sequence[Step | list[Step]]],
        pool: Callable[[Tensor], Tensor],
        pooled: int = 0,
        *,
        shrink: bool = False,
    ) -> None:
        super().__init__()
        self.chains: list[list[list[str]]] = []
        self.pool = pool
        for chain in chains:
            width, names = inputs, []
            for i, entry in enumerate(chain):
                steps = entry if isinstance(entry, list) else [entry]
                last = shrink and i == len(chain) - 1
                for suffix, outputs, kernel in steps:
                    module = Convolution(width, outputs, kernel, 2 if last else 1, pad=not last)
                    self.add_module(f"branch{suffix}", module)
                width = steps[0][1]
                names.append([f"branch{suffix}" for suffix, _, _ in steps])
            self.chains.append(names)
        if pooled:
            self.branch_pool = Convolution(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The branches' outputs, concatenated."""
        outputs = []
        for chain in self.chains:
            value = x
            for names in chain:
                value = torch.cat([self.get_submodule(name)(value) for name in names], dim=1)
            outputs.append(value)
        pooled = self.pool(x)
        return torch.cat([*outputs, self.branch_pool(pooled) if "branch_pool" in self._modules else pooled], dim=1)


def _mean_of_nine(x: Tensor) -> Tensor:
    return avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _largest_of_nine(x: Tensor) -> Tensor:
    return max_pool2d(x, 3, stride=1, padding=1)


def _shrunk(x: Tensor) -> Tensor:
    return max_pool2d(x, 3, stride=2)


def _block_5(inputs: int, pooled: int) -> Mixed:
    chains: list[list[Step | list[Step]]] = [
        [("1x1", 64, 1)],
        [("5x5_1", 48, 1), ("5x5_2", 64, 5)],
        [("3x3dbl_1", 64, 1), ("3x3dbl_2", 96, 3), ("3x3dbl_3", 96, 3)],
    ]
    return Mixed(inputs, chains, _mean_of_nine, pooled)


def _block_6(width: int) -> Mixed:
    chains: list[list[Step | list[Step]]] = [
        [("1x1", 192, 1)],
        [("7x7_1", width, 1), ("7x7_2", width, _WIDE), ("7x7_3", 192, _TALL)],
        [
            ("7x7dbl_1", width, 1),
            ("7x7dbl_2", width, _TALL),
            ("7x7dbl_3", width, _WIDE),
            ("7x7dbl_4", width, _TALL),
            ("7x7dbl_5", 192, _WIDE),
        ],
    ]
    return Mixed(768, chains, _mean_of_nine, 192)


def _block_7(inputs: int, pool: Callable[[Tensor], Tensor]) -> Mixed:
    def split(prefix: str) -> list[Step]:
        return [(f"{prefix}a", 384, (1, 3)), (f"{prefix}b", 384, (3, 1))]

    chains: list[list[Step | list[Step]]] = [
        [("1x1", 320, 1)],
        [("3x3_1", 384, 1), split("3x3_2")],
        [("3x3dbl_1", 448, 1), ("3x3dbl_2", 384, 3), split("3x3dbl_3")],
    ]
    return Mixed(inputs, chains, pool, 192)


@dataclass(frozen=True, eq=False)
class InceptionOutput:
    """What metrics read off the network, per image.

    `pooled` `(b, 2048)`: FID, KID, precision and recall. `spatial` `(b, 192, 17, 17)`: the 1 x 1 branch of `Mixed_6d`,
    of whose maps sFID reads 7. `logits` `(b, 1008)` without bias: the Inception Score. `early` `(b, 64)`, `middle`
    `(b, 192)`, `late` `(b, 768)`: spatial means further up.
    """

    early: Tensor
    middle: Tensor
    late: Tensor
    spatial: Tensor
    pooled: Tensor
    logits: Tensor


class Inception(nn.Module):
    """Inception v3 as the TensorFlow graph of 2015-12-05 has it, under the key names of its PyTorch conversions.

    Average pools leave padding out, the last block pools by maximum, and 1008 classes are told apart. It takes
    prepared images `(b, 3, 299, 299)`, see `Preparation`. Weights come from `from_weights`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, 2, pad=False)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3, pad=False)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3, pad=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _block_5(192, 32), _block_5(256, 64), _block_5(288, 64)
        halving: list[list[Step | list[Step]]] = [
            [("3x3", 384, 3)],
            [("3x3dbl_1", 64, 1), ("3x3dbl_2", 96, 3), ("3x3dbl_3", 96, 3)],
        ]
        self.Mixed_6a = Mixed(288, halving, _shrunk, shrink=True)
        self.Mixed_6b, self.Mixed_6c = _block_6(128), _block_6(160)
        self.Mixed_6d, self.Mixed_6e = _block_6(160), _block_6(192)
        halving = [
            [("3x3_1", 192, 1), ("3x3_2", 320, 3)],
            [("7x7x3_1", 192, 1), ("7x7x3_2", 192, _WIDE), ("7x7x3_3", 192, _TALL), ("7x7x3_4", 192, 3)],
        ]
        self.Mixed_7a = Mixed(768, halving, _shrunk, shrink=True)
        self.Mixed_7b, self.Mixed_7c = _block_7(1280, _mean_of_nine), _block_7(2048, _largest_of_nine)
        self.fc = nn.Linear(2048, 1008)

    @classmethod
    def from_weights(cls, weights: Mapping[str, Tensor]) -> Inception:
        """The network with the weights of pytorch-fid or torch-fidelity; ValueError names keys missing or too many."""
        network = cls().requires_grad_(False).eval()
        own = network.state_dict()
        given = {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
        wanted = {key for key in own if not key.endswith("num_batches_tracked")}
        wrong = [key for key in wanted & given.keys() if given[key].shape != own[key].shape]
        faults = {"missing": wanted - given.keys(), "unknown": given.keys() - wanted, "of another shape": wrong}
        told = [f"{len(keys)} keys {how}, the first is {min(keys)!r}" for how, keys in faults.items() if keys]
        if told:
            raise ValueError(f"these are not the weights of the Inception network of 2015-12-05: {'; '.join(told)}")
        network.load_state_dict({**own, **given})
        return network

    def taps(self, prepared: Tensor) -> InceptionOutput:
        """Everything that metrics read, from prepared images `(b, 3, 299, 299)`."""
        early = _shrunk(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(prepared))))
        middle = _shrunk(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(early)))
        grid = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(middle))))
        grid = self.Mixed_6c(self.Mixed_6b(grid))
        spatial = self.Mixed_6d.get_submodule("branch1x1")(grid)
        late = self.Mixed_6e(self.Mixed_6d(grid))
        pooled = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(late))).mean(dim=(2, 3))
        early, middle, late = (x.mean(dim=(2, 3)) for x in (early, middle, late))
        return InceptionOutput(early, middle, late, spatial, pooled, pooled @ self.fc.weight.T)

    def forward(self, prepared: Tensor) -> Tensor:
        """Pooled features `(b, 2048)` of prepared images `(b, 3, 299, 299)`."""
        return self.taps(prepared).pooled

r"""Trunks of the context decoders: from features to rows of the head's width, through blocks of any kind.

A block is a module from rows `(b, *grid, width)` to rows of the same shape, made by a callable from the width:
`ResidualBlock` (the default), `TransformerBlock`, or your own. One whose attribute `pointwise` is true maps each unit
by itself, so that a trunk of such blocks may be given the units in any arrangement, and a part of them at a time.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ._types import Features, Times

Rows = Float[Tensor, "b *grid width"]
Block = Callable[[int], nn.Module]

CONVOLUTIONS: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {
    1: nn.Conv1d,
    2: nn.Conv2d,
    3: nn.Conv3d,
}


class Mix(nn.Module):
    """Linear map of each unit with `kernel_size` 1, of the units around it with more; rows in, rows out."""

    def __init__(self, width: int, *, kernel_size: int, dimensions: int) -> None:
        super().__init__()
        if dimensions not in CONVOLUTIONS:
            raise ValueError(f"dimensions is {dimensions}: grids of 1, 2 or 3 dimensions are supported")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size is {kernel_size}: give an odd one, 1 to see one unit or 3 to see those around it"
            )
        convolution = CONVOLUTIONS[dimensions]
        self.map = (
            nn.Linear(width, width) if kernel_size == 1 else convolution(width, width, kernel_size, padding="same")
        )

    def forward(self, rows: Rows) -> Rows:
        mixed: Tensor = (
            self.map(rows) if isinstance(self.map, nn.Linear) else self.map(rows.movedim(-1, 1)).movedim(1, -1)
        )
        return mixed


class ResidualBlock(nn.Module):
    """Residual block on rows: `x + map(SiLU(map(SiLU(norm(x)))))`.

    With `kernel_size` 1 it is pointwise: one unit tells its context. With 3 the features of the units around it, whose
    values it is to predict, are seen as well.

    Raises:
        ValueError: an even kernel, or a grid of more than three dimensions.

    Source: ConPreDiff context head
    Unstated: the block's norm and kernel; over the channels of each unit, and 1, so that one unit tells its context
        [kernel_size, ContextPrediction.block].
    """

    def __init__(self, width: int, *, kernel_size: int = 1, dimensions: int = 2) -> None:
        super().__init__()
        self.pointwise = kernel_size == 1
        self.norm = nn.LayerNorm(width)
        self.expand = Mix(width, kernel_size=kernel_size, dimensions=dimensions)
        self.contract = Mix(width, kernel_size=kernel_size, dimensions=dimensions)

    def forward(self, rows: Rows) -> Rows:
        hidden = self.expand(nn.functional.silu(self.norm(rows)))
        summed: Tensor = rows + self.contract(nn.functional.silu(hidden))
        return summed


class TransformerBlock(nn.Module):
    """Transformer block on rows: self-attention over all units of the grid, then a feed-forward network, both residual.

    Every unit then sees the features of all others, its neighbours among them: what it tells of its context is no
    longer told by that unit alone. Positions are not encoded; the features carry them as far as the backbone does. Time
    and, on some devices, memory grow with the square of the number of units. `heads` divides the width; as given, else
    one for every 32 channels.

    Raises:
        ValueError: heads that do not divide the width.

    Source: ConPreDiff context head
    """

    pointwise = False

    def __init__(self, width: int, *, heads: int | None = None, expansion: int = 4) -> None:
        super().__init__()
        self.heads = math.gcd(max(1, width // 32), width) if heads is None else heads
        if self.heads < 1 or width % self.heads:
            raise ValueError(f"heads is {self.heads}, which does not divide the width {width}; give a divisor of it")
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width))

    def forward(self, rows: Rows) -> Rows:
        units = rows.flatten(1, -2)
        units = units + self.attend(self.attention_norm(units))
        fed: Tensor = units + self.feed(self.feed_norm(units))
        return fed.reshape(rows.shape)

    def attend(self, units: Float[Tensor, "b n width"]) -> Float[Tensor, "b n width"]:
        """Multi-head self-attention over all units."""
        by_head = self.project(units).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended: Tensor = self.merge(_attention(*by_head).transpose(1, 2).flatten(2))
        return attended


class Trunk(nn.Module):
    """Project features to the head's width and pass them through blocks; rows `(b, *grid, width)` out.

    With `timed`, a learned embedding of the time is added before the blocks, of which `block` makes `depth`.

    Source: ConPreDiff context head
    """

    def __init__(self, features: int, width: int, *, depth: int, block: Block, dimensions: int, timed: bool) -> None:
        super().__init__()
        if dimensions not in CONVOLUTIONS:
            raise ValueError(f"dimensions is {dimensions}: grids of 1, 2 or 3 dimensions are supported")
        self.features, self.dimensions = features, dimensions
        self.project = nn.Linear(features, width)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)) if timed else None
        self.blocks = nn.Sequential(*(block(width) for _ in range(depth)))
        self.pointwise = all(getattr(made, "pointwise", False) for made in self.blocks)

    def forward(self, features: Features, t: Times | None = None) -> Rows:
        if features.ndim != self.dimensions + 2 or features.shape[1] != self.features:
            raise ValueError(
                f"features has shape {tuple(features.shape)}, not (b, {self.features}) and {self.dimensions} grid axes;"
                " pass the width and the dimensions of your feature map to the constructor"
            )
        embedding = self.embed(t)
        if embedding is not None:
            embedding = embedding.reshape(len(embedding), *(1 for _ in range(self.dimensions)), -1)
        return self.refine(features.movedim(1, -1), embedding)

    def embed(self, t: Times | None) -> Float[Tensor, "b width"] | None:
        """Embedding of the times, of a trunk that has one."""
        if self.time is None:
            return None
        if t is None:
            raise ValueError("t is missing: this decoder was made with timed=True and needs the times (b,)")
        embedding: Tensor = self.time(_sinusoids(t, self.project.out_features).to(self.project.weight.dtype))
        return embedding

    def refine(self, rows: Tensor, embedding: Tensor | None) -> Tensor:
        """Rows of features `(..., features)` to rows of the head's width, with an embedding that broadcasts to them."""
        rows = self.project(rows)
        refined: Tensor = self.blocks(rows if embedding is None else rows + embedding)
        return refined


def residual(kernel_size: int, dimensions: int) -> Block:
    """Maker of residual blocks of this kernel."""
    return lambda width: ResidualBlock(width, kernel_size=kernel_size, dimensions=dimensions)


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention; written out for bf16 on a CPU, where the fused backward pass is slow."""
    if query.device.type == "cpu" and query.dtype == torch.bfloat16:
        weights = (query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])).softmax(-1)
        return weights @ value
    attended: Tensor = nn.functional.scaled_dot_product_attention(query, key, value)
    return attended


def _sinusoids(t: Times, width: int) -> Float[Tensor, "b width"]:
    """Sines and cosines of the time at geometric frequencies from 1 to 1/10000, cut to `width`."""
    half = (width + 1) // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1)[:, :width]

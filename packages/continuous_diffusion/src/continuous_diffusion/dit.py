"""DiT: a transformer over patches, another denoiser under the same objective."""

from collections.abc import Sequence

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

from continuous_diffusion._types import Images, Times, Tokens
from continuous_diffusion.attention import SelfAttention, zeroed
from continuous_diffusion.blocks import TimeEmbedding
from continuous_diffusion.denoiser import Condition, Given, Prediction, PredictionWithVariance, check_labels, present

WAVES = 256


class DiT(nn.Module, PyTorchModelHubMixin):
    """The diffusion transformer: patches of the state as tokens; time and class scale, shift and gate each block.

    * `in_channels` of the noisy state and of what is put beside it (`condition.concat`); `out_channels` of the value.
    * `grid` (h, w) of the state, in patches of `patch` x `patch`.
    * `width`, `depth`, `heads` of the transformer; its hidden layers are `feed_forward` times wider.
    * `classes` K: labels are added to the time; label K means none, unless `null_class` is False.
    * `learned_variance`: twice the channels leave it, the second half being the variance; see `PredictionWithVariance`.

    Its features (b, width, h / patch, w / patch) are the output of the last block.

    Raises ValueError for a grid that the patches do not divide and a width that the heads do not, or not by 4.

    Source: DiT block with adaLN-Zero
    """

    positions: Tensor

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        grid: Sequence[int],
        patch: int,
        width: int,
        depth: int,
        heads: int,
        feed_forward: int = 4,
        classes: int | None = None,
        null_class: bool = True,
        learned_variance: bool = False,
    ) -> None:
        super().__init__()
        if width % heads or width % 4:
            raise ValueError(f"width: {width} is not a multiple of heads={heads} and of 4")
        if grid[0] % patch or grid[1] % patch:
            raise ValueError(f"grid: {tuple(grid)} is not a multiple of patch={patch}")
        self.in_channels = in_channels
        self.grid = (int(grid[0]), int(grid[1]))
        self.patch = patch
        self.classes = classes
        self.null_class = classes if null_class else None
        self.learned_variance = learned_variance
        self.stem = nn.Conv2d(in_channels, width, patch, stride=patch)
        self.time = TimeEmbedding(WAVES, width)
        self.labels = None if classes is None else nn.Embedding(classes + null_class, width)
        self.blocks = nn.ModuleList(Block(width, heads, feed_forward) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, patch * patch * out_channels * (2 if learned_variance else 1))
        self.register_buffer(
            "positions", wave_positions((self.grid[0] // patch, self.grid[1] // patch), width), persistent=False
        )
        self._initialise()

    def forward(self, x_t: Images, t: Times, condition: Given | None = None) -> Prediction:
        """The prediction for noisy states (b, c, h, w) at steps `t` in 1..T, (b,).

        Raises ValueError for another grid, and for a condition missing or not expected.
        """
        given = Condition.of(condition)
        self._check(x_t, given)
        x = x_t if given.concat is None else torch.cat([x_t, given.concat.to(x_t.dtype)], 1)
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        tokens = tokens + self.positions.to(tokens.dtype)
        time = self.time(t, None if self.labels is None else self.labels(given.classes))
        for block in self.blocks:
            tokens = block(tokens, time)
        shift, scale = self.modulation(time)[:, None].chunk(2, -1)
        value = self._unpatched(self.head(_modulated(self.norm(tokens), shift, scale))).to(x_t.dtype)
        features = tokens.transpose(1, 2).unflatten(2, (self.grid[0] // self.patch, self.grid[1] // self.patch))
        if not self.learned_variance:
            return Prediction(value=value, features=features)
        value, variance = value.chunk(2, 1)
        return PredictionWithVariance(value=value, features=features, variance=variance)

    def _unpatched(self, tokens: Tensor) -> Tensor:
        """Tokens (b, n, patch * patch * c) to images (b, c, h, w)."""
        p, (h, w) = self.patch, self.grid
        squares = tokens.view(len(tokens), h // p, w // p, p, p, -1)
        return squares.permute(0, 5, 1, 3, 2, 4).reshape(len(tokens), -1, h, w)

    def _check(self, x_t: Images, given: Condition) -> None:
        beside = 0 if given.concat is None else given.concat.shape[1]
        if x_t.shape[1] + beside != self.in_channels:
            found = f"{x_t.shape[1]} channels" + (f" and {beside} of condition.concat" if beside else "")
            raise ValueError(f"x_t: {found}, this DiT reads in_channels={self.in_channels}")
        for name, part in (("x_t", x_t), ("condition.concat", given.concat)):
            if part is not None and part.shape[2:] != self.grid:
                raise ValueError(f"{name}: size {tuple(part.shape[2:])}, this DiT was built for grid={self.grid}")
        present(given.classes, self.classes is not None, "condition.classes", "classes", "see null_class")
        check_labels(given.classes, 0 if self.labels is None else self.labels.num_embeddings - 1)
        present(given.context, False, "condition", "a U-Net's condition_width", "")
        present(given.level, False, "condition.level", "a U-Net's augmented", "")

    def _initialise(self) -> None:
        """Blocks start as the identity, the value as 0.

        Source: DiT block with adaLN-Zero
        """
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        nn.init.xavier_uniform_(self.stem.weight.view(len(self.stem.weight), -1))
        embeddings = [self.time.hidden.weight, self.time.out.weight]
        for weight in embeddings if self.labels is None else [*embeddings, self.labels.weight]:
            nn.init.normal_(weight, std=0.02)
        for block in self.modules():
            if isinstance(block, Block):
                zeroed(block.modulation)
        zeroed(self.modulation)
        zeroed(self.head)


class Block(nn.Module):
    """Self-attention and a hidden layer, each on normalised tokens that the time scales and shifts, each gated by it.

    Source: DiT block with adaLN-Zero
    """

    def __init__(self, width: int, heads: int, feed_forward: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attention = SelfAttention(width, heads, bias=True)
        self.expand = nn.Linear(width, feed_forward * width)
        self.contract = nn.Linear(feed_forward * width, width)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, tokens: Tokens, time: Tensor) -> Tokens:
        """Tokens (b, n, d) and activated vectors of the time (b, d) to tokens (b, n, d)."""
        shift, scale, gate, shift_feed, scale_feed, gate_feed = self.modulation(time)[:, None].chunk(6, -1)
        tokens = tokens + gate * self.attention(_modulated(self.norm(tokens), shift, scale))
        hidden = F.gelu(self.expand(_modulated(self.norm(tokens), shift_feed, scale_feed)), approximate="tanh")
        fed: Tensor = tokens + gate_feed * self.contract(hidden)
        return fed


def wave_positions(grid: tuple[int, int], width: int) -> Tensor:
    r"""Sines and cosines of the column (first half of the width) and of the row (second), (n, width).

    Each half: $\sin(p f), \cos(p f)$ with $f_i = 10000^{-4i/d}$.
    """
    frequencies = 10000 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows, columns = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in grid), indexing="ij")
    angles = [place.flatten()[:, None] * frequencies for place in (columns, rows)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], 1).float()


def _modulated(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return tokens * (1 + scale) + shift

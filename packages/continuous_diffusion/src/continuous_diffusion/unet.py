"""The U-Net of latent diffusion: residual blocks at each resolution, attention at some of them."""

from collections.abc import Sequence
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from continuous_diffusion._types import Images, States, Times
from continuous_diffusion.blocks import TimeEmbedding, activated, zeroed_convolution
from continuous_diffusion.denoiser import Condition, Given, Prediction, PredictionWithVariance, check_labels, present
from continuous_diffusion.levels import Cell, Parts, ascend, descend


class UNet(nn.Module, PyTorchModelHubMixin):
    """The time-conditional U-Net of ADM and LDM, with cross-attention where a condition is to be read.

    * `in_channels` of the noisy state and of what is put beside it (`condition.concat`); `out_channels` of the value.
    * `channels` times each of `multipliers` is the width of a level; each level halves the resolution of the last.
    * `attention_at` are the downsampling factors (1, 2, 4, ...) with attention; the middle always has it.
    * `heads` per attention, or `head_channels` per head: one of them.
    * `condition_width` d_c: attention becomes a spatial transformer of `transformer_depth` blocks that reads
      `condition` (b, l, d_c). `null_states`: how many learned states stand for "no condition": 1 for any length,
      0 for none, else for that length.
    * `resample_by_blocks`: resolution changes inside residual blocks; `scale_shift`: time scales as well as shifts.
    * `classes` K: labels are added to the time; label K means none, unless `null_class` is False.
    * `augmented`: the step to which `condition.concat` was noised is added to the time.
    * `learned_variance`: twice the channels leave it, the second half being the variance; see `PredictionWithVariance`.
    * `grid` (h, w): the one input size that is accepted; any that the levels divide when None.
    * `attention_positions`: a learned vector per position in each attention block, for `grid`.

    Raises ValueError for widths that `groups` does not divide, and for heads that do not fit.

    Source: LDM U-Net
    Deviation: `attention_positions`, off by default, are not in the paper. In a small study on the CPU they took the
    share of right captions (two coloured shapes in relation) from 65 % to 89 % at 1,200 steps [attention_positions].
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        channels: int,
        multipliers: Sequence[int],
        residual_blocks: int,
        attention_at: Sequence[int] = (),
        heads: int | None = None,
        head_channels: int | None = None,
        condition_width: int | None = None,
        null_states: int = 1,
        classes: int | None = None,
        null_class: bool = True,
        augmented: bool = False,
        learned_variance: bool = False,
        transformer_depth: int = 1,
        feed_forward: int = 4,
        resample_by_blocks: bool = False,
        scale_shift: bool = False,
        grid: Sequence[int] | None = None,
        attention_positions: bool = False,
        groups: int = 32,
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        self.arguments: dict[str, Any] = arguments
        odd = [channels * m for m in multipliers if channels * m % groups] + [channels] * (channels % groups > 0)
        if odd:
            raise ValueError(f"widths {odd} are not multiples of groups={groups}")
        self.in_channels = in_channels
        self.condition_width = condition_width
        self.classes = classes
        self.null_class = classes if null_class else None
        self.learned_variance = learned_variance
        self.shrinkage = 2 ** (len(multipliers) - 1)
        self.grid = None if grid is None else (int(grid[0]), int(grid[1]))
        parts = Parts(
            channels=channels,
            heads=heads,
            head_channels=head_channels,
            condition_width=condition_width,
            transformer_depth=transformer_depth,
            feed_forward=feed_forward,
            resample_by_blocks=resample_by_blocks,
            scale_shift=scale_shift,
            grid=self.grid,
            attention_positions=attention_positions,
            attention_at=frozenset(attention_at),
            groups=groups,
        )
        widths = [channels * m for m in multipliers]
        self.time = TimeEmbedding(channels, 4 * channels)
        self.stem = nn.Conv2d(in_channels, channels, 3, padding=1)
        skips = [channels]
        self.down = nn.ModuleList(descend(parts, widths, residual_blocks, skips))
        self.middle = nn.ModuleList(
            [
                Cell(parts.residual(widths[-1], widths[-1]), parts.attention(widths[-1], self.shrinkage)),
                Cell(parts.residual(widths[-1], widths[-1])),
            ]
        )
        self.up = nn.ModuleList(ascend(parts, widths, residual_blocks, skips))
        self.norm = nn.GroupNorm(groups, channels)
        self.head = zeroed_convolution(channels, 2 * out_channels if learned_variance else out_channels)
        if condition_width is not None and null_states:
            self.null = nn.Parameter(0.02 * torch.randn(null_states, condition_width))
        else:
            self.register_parameter("null", None)
        self.labels = None if classes is None else nn.Embedding(classes + null_class, 4 * channels)
        self.level = TimeEmbedding(channels, 4 * channels) if augmented else None

    def forward(self, x_t: Images, t: Times, condition: Given | None = None) -> Prediction:
        """The prediction for noisy states (b, c, h, w) at steps `t` in 1..T, (b,).

        Raises ValueError for a size that the levels do not divide, and for a condition missing or not expected.
        """
        given = Condition.of(condition)
        self._check(x_t, given)
        time = self.time(t, self._beside_time(given))
        h = self.stem(x_t if given.concat is None else torch.cat([x_t, given.concat.to(x_t.dtype)], 1))
        skips = [h]
        for cell in self.down:
            h = cell(h, time, given.context)
            skips.append(h)
        for cell in self.middle:
            h = cell(h, time, given.context)
        for cell in self.up:
            h = cell(torch.cat([h, skips.pop()], 1), time, given.context)
        value = self.head(activated(self.norm(h))).to(x_t.dtype)
        if not self.learned_variance:
            return Prediction(value=value, features=h)
        value, variance = value.chunk(2, 1)
        return PredictionWithVariance(value=value, features=h, variance=variance)

    def null_condition(self, b: int, l: int) -> States:  # noqa: E741
        """The learned states of "no condition", (b, l, d_c).

        Raises ValueError when there are none, or when they were learned for another length.

        Source: Improved VQ-Diffusion learnable null condition
        Unstated: the number of states and their first values; one for all lengths, N(0, 0.02^2) [null_states].
        """
        if self.null is None:
            raise ValueError("this U-Net has no null states: build it with condition_width and null_states=1")
        if len(self.null) not in (1, l):
            raise ValueError(f"l: {l} null states asked for, {len(self.null)} were learned")
        return self.null.expand(b, l, -1)

    def _beside_time(self, given: Condition) -> Tensor | None:
        """What is added to the vectors of the time, (b, 4 channels): those of the class and of the level."""
        added = [] if self.labels is None else [self.labels(given.classes)]
        if self.level is not None and given.level is not None:
            added.append(self.level.vectors(given.level + 1))
        return sum(added[1:], added[0]) if added else None

    def _check(self, x_t: Images, given: Condition) -> None:
        b, c, h, w = x_t.shape
        beside = 0 if given.concat is None else given.concat.shape[1]
        if c + beside != self.in_channels:
            found = f"{c} channels" + (f" and {beside} of condition.concat" if beside else "")
            raise ValueError(f"x_t: {found}, this U-Net reads in_channels={self.in_channels}")
        if h % self.shrinkage or w % self.shrinkage:
            raise ValueError(f"x_t: size {h} x {w}, both sides must be multiples of {self.shrinkage} for these levels")
        if self.grid not in (None, (h, w)):
            raise ValueError(f"x_t: size {h} x {w}, this U-Net was built for grid={self.grid}")
        if given.concat is not None and given.concat.shape[2:] != x_t.shape[2:]:
            raise ValueError(f"condition.concat: size {tuple(given.concat.shape[2:])} beside x_t of size {h} x {w}")
        present(given.context, self.condition_width is not None, "condition", "condition_width", "see null_condition")
        present(given.classes, self.classes is not None, "condition.classes", "classes", "see null_class")
        check_labels(given.classes, 0 if self.labels is None else self.labels.num_embeddings - 1)
        present(given.level, self.level is not None, "condition.level", "augmented", "0 is a clean image")
        if given.context is not None and (given.context.shape[0], given.context.shape[2]) != (b, self.condition_width):
            raise ValueError(
                f"condition: shape {tuple(given.context.shape)}, expected ({b}, l, {self.condition_width}) beside x_t"
            )

"""The denoiser's interface, and the transformer of VQ-Diffusion."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from discrete_diffusion._types import Condition, Features, Logits, Times, Tokens
from discrete_diffusion.blocks import (
    Block,
    ConvolutionalFeedForward,
    DepthwiseConvolution,
    FeedForward,
    Given,
    LearnedClass,
    LearnedTime,
    SinusoidalTime,
    to_grid,
)


@dataclass(frozen=True)
class Prediction:
    """What a denoiser says of `x_t`.

    Attributes:
        value: logits of the clean tokens, (b, n, k).
        features: input of the last layer, (b, d, h, w).
    """

    value: Logits
    features: Features


@runtime_checkable
class Denoiser(Protocol):
    """Anything that predicts the clean tokens."""

    def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        """Predict from tokens (b, n), times (b,) in 1..T and a condition (b, l, d_c) or (b,)."""
        ...

    def null_condition(self, b: int, l: int) -> Tensor:  # noqa: E741
        """The condition that says nothing, for b examples of l states."""
        ...


class TokenTransformer(nn.Module, PyTorchModelHubMixin):
    """The denoising transformer of VQ-Diffusion: conditioned on states by cross-attention, on a class, or on nothing.

    `features` are the output of the last block, which enters the final norm and linear layer.
    A conditional model that is given no condition takes the null one.

    Args:
        codes: K; the mask is token K.
        grid: (h, w); tokens are row-major over it, n = h w.
        steps: T.
        width: d, a multiple of `heads`.
        depth: number of blocks.
        heads: attention heads.
        feedforward: width of the feed-forward nets as a multiple of d.
        condition_width: d_c of the states (b, l, d_c) that the blocks attend to, or None.
        null_length: number of learnable null states; 1 is repeated over any length, 0 is for models without.
        classes: number of classes of labels (b,) in 0 .. classes - 1 (`classes` itself means none), or None.
        sinusoidal_time: sines of the time instead of learned vectors.
        convolutional_feedforward: 3x3 convolutions in the feed-forward nets instead of linear layers.
        convolution: a depthwise 3x3 convolution in every block.
        positions_in_every_block: the position embedding added again at the start of every block.
        position_grid: rows and columns of the position tables; `grid` unless given.
        class_in_time: add an embedding of the class to those of the time, instead of one that modulates the last norm
            of every block.

    Attributes:
        checkpointing: compute the blocks again in the backward pass instead of keeping what is inside them. False
            until set; never saved.

    Source: VQ-Diffusion denoising transformer
    Source: Improved VQ-Diffusion learnable null condition
    Deviation: `convolution` and `positions_in_every_block` are not the paper's, off by default; small models need them
        [convolution, positions_in_every_block].
    Unstated: the null state starts at N(0, 0.02); the released code starts at N(0, 1) [fixed].
    """

    def __init__(
        self,
        *,
        codes: int,
        grid: Sequence[int],
        steps: int,
        width: int,
        depth: int,
        heads: int,
        feedforward: int = 4,
        condition_width: int | None = None,
        null_length: int = 1,
        classes: int | None = None,
        sinusoidal_time: bool = False,
        convolutional_feedforward: bool = False,
        convolution: bool = False,
        positions_in_every_block: bool = False,
        position_grid: Sequence[int] | None = None,
        class_in_time: bool = False,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width must be a multiple of heads, got {width} and {heads}")
        if condition_width is not None and classes is not None:
            raise ValueError("give condition_width (states) or classes (labels), not both")
        if class_in_time and classes is None:
            raise ValueError("class_in_time needs classes, the number of them")
        self.codes, self.steps, self.classes = codes, steps, classes
        self.checkpointing = False
        self.grid = h, w = int(grid[0]), int(grid[1])
        rows, columns = position_grid or grid
        if rows * columns < h * w:
            raise ValueError(f"position_grid {position_grid} has fewer positions than the grid {self.grid}")
        self.positions_in_every_block = positions_in_every_block
        self.tokens = nn.Embedding(codes + 1, width)
        self.rows = nn.Embedding(rows, width)
        self.columns = nn.Embedding(columns, width)
        self.blocks = nn.ModuleList(
            Block(
                width,
                heads,
                feedforward=ConvolutionalFeedForward(width, feedforward, self.grid)
                if convolutional_feedforward
                else FeedForward(width, feedforward),
                time=SinusoidalTime if sinusoidal_time else LearnedTime,
                steps=steps,
                condition_width=condition_width,
                classes=None if class_in_time else classes,
                convolution=DepthwiseConvolution(width, self.grid) if convolution else None,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, codes)
        self.null = None if condition_width is None else nn.Parameter(torch.randn(null_length, condition_width) * 0.02)
        self.labels = LearnedClass(classes, width) if class_in_time and classes is not None else None
        self.apply(_initialise)

    def forward(self, x_t: Tokens, t: Times, condition: Condition | None = None) -> Prediction:
        """Predict the clean tokens.

        Raises:
            ValueError: if the tokens do not fill the grid, the condition is not of the model's kind, or, on the CPU,
                a token, time or label is out of range (on other devices their own assertions speak).
        """
        self.check(x_t, t, condition)
        condition = self.completed(condition, len(x_t))
        label = None if self.labels is None or condition is None else self.labels(condition)
        return self.through(x_t, lambda block, i: block.given(t, condition, label))

    def through(self, x_t: Tokens, given: Callable[[Block, int], Given]) -> Prediction:
        """Predict from what `given` tells each block, in its turn."""
        positions = self.positions()
        x = self.tokens(x_t) + positions
        for i, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            if i > 0 and self.positions_in_every_block:
                x = x + positions
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, given(block, i), use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(x, given(block, i))
        return Prediction(self.logits(self.norm(x)), to_grid(x, self.grid))

    def completed(self, condition: Condition | None, b: int) -> Condition | None:
        """The condition, or the null one where a conditional model is given none."""
        if condition is None and (self.null is not None or self.classes is not None):
            return self.null_condition(b, 1 if self.null is None else len(self.null))
        return condition

    def positions(self) -> Tensor:
        """Position embeddings, (n, d): that of the row plus that of the column."""
        h, w = self.grid
        return (self.rows.weight[:, None] + self.columns.weight[None]).flatten(0, 1)[: h * w]

    def null_condition(self, b: int, l: int) -> Condition:  # noqa: E741
        """The learnable null states, (b, l, d_c), or the label that means no class, (b,).

        Raises:
            ValueError: if the model is unconditional, or has a number of null states other than 1 and l.

        Source: Improved VQ-Diffusion learnable null condition
        """
        if self.classes is not None:
            return torch.full((b,), self.classes, device=self.tokens.weight.device)
        if self.null is None:
            raise ValueError("an unconditional model has no null condition; give condition_width or classes")
        if len(self.null) == 0:
            raise ValueError("the model has no null states; guide with others: Guided(model, scale, null=states)")
        if len(self.null) not in (1, l):
            raise ValueError(f"l: the model has {len(self.null)} null states, the condition has {l}; pad it to as many")
        return self.null.expand(b, l, -1)

    def check(self, x_t: Tensor, t: Tensor, condition: Tensor | None) -> None:
        """Raise a ValueError for what `forward` cannot take."""
        h, w = self.grid
        if x_t.shape[1] != h * w:
            raise ValueError(f"x_t: expected (b, {h * w}) tokens for a grid of {h} x {w}, got {tuple(x_t.shape)}")
        b = len(x_t)
        if t.shape != (b,):
            raise ValueError(f"t: expected ({b},) times for {b} examples, got {tuple(t.shape)}")
        _within("x_t", x_t, 0, self.codes, "the mask being the last")
        _within("t", t, 1, self.steps, "t = 0 being clean")
        if condition is None:
            return
        if self.null is None and self.classes is None:
            raise ValueError("condition: the model is unconditional; build it with condition_width or classes")
        if self.null is not None and (condition.ndim != 3 or condition.shape[2] != self.null.shape[1]):
            raise ValueError(f"condition: expected (b, l, {self.null.shape[1]}) states, got {tuple(condition.shape)}")
        if self.classes is not None and condition.ndim != 1:
            raise ValueError(f"condition: expected (b,) labels, got {tuple(condition.shape)}")
        if len(condition) != b:
            raise ValueError(f"condition: {len(condition)} for {b} examples; give one each")
        if self.classes is not None:
            _within("condition", condition, 0, self.classes, "the last meaning none")


def _within(name: str, x: Tensor, low: int, high: int, meaning: str) -> None:
    """Look at the values where that costs nothing: not on other devices, and not while a graph is captured."""
    if x.device.type != "cpu" or x.numel() == 0 or torch.compiler.is_compiling():
        return
    least, most = (int(bound) for bound in x.aminmax())
    if least < low or most > high:
        raise ValueError(f"{name}: expected values in {low}..{high}, {meaning}; got {least}..{most}")


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)

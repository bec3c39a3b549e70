"""LDM's encoder of tokens: a BERT-style transformer, for captions and for layouts."""

import torch
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Bool, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from continuous_diffusion._types import States, Tokens
from continuous_diffusion.attention import SelfAttention

HEADS, HEAD_WIDTH = 8, 64


class TokenEncoder(nn.Module, PyTorchModelHubMixin):
    """Tokens (b, l) to states (b, l, width) that a denoiser reads by cross-attention.

    * `vocabulary`: number of tokens; `length`: the longest sequence.
    * `width`, `depth`, `heads` of `head_width` each, of the transformer.

    Attention sees all positions, padding too, as in the published models.

    Source: LDM conditioning mechanisms
    """

    def __init__(
        self,
        *,
        vocabulary: int = 30522,
        length: int = 77,
        width: int = 1280,
        depth: int = 32,
        heads: int = HEADS,
        head_width: int = HEAD_WIDTH,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(EncoderBlock(width, heads, head_width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)

    def forward(self, tokens: Int64[Tensor, "b l"], *, kept: Bool[Tensor, "b l"] | None = None) -> States:
        """The states of the tokens; where `kept` is False a position is not attended to, and attends to all alike.

        Raises ValueError for a sequence that is too long or a token that is not in the vocabulary.
        """
        if tokens.shape[1] > self.positions.num_embeddings:
            raise ValueError(
                f"tokens: {tokens.shape[1]} of them, this encoder has length={self.positions.num_embeddings}"
            )
        if (
            tokens.device.type == "cpu"
            and tokens.numel()
            and not 0 <= tokens.min() <= tokens.max() < len(self.head.bias)
        ):
            raise ValueError(f"tokens: {tokens.min()} to {tokens.max()}, expected 0..{len(self.head.bias) - 1}")
        states = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        bias = None if kept is None else _bias(kept, states)
        for block in self.blocks:
            states = block(states, bias)
        normed: Tensor = self.norm(states)
        return normed

    def logits(self, states: States) -> Tensor:
        """The head that was trained beside the states, (b, l, vocabulary)."""
        scores: Tensor = self.head(states)
        return scores


class EncoderBlock(nn.Module):
    """Self-attention and a hidden layer four times as wide, each on normalised tokens and added to them."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.norm, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, bias=False, head_width=head_width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, tokens: Tokens, bias: Tensor | None = None) -> Tokens:
        """Tokens (b, n, d) to tokens (b, n, d); `bias` (b, 1, n, n) is added to the scores."""
        tokens = tokens + self.attention(self.norm(tokens), bias)
        fed: Tensor = tokens + self.contract(F.gelu(self.expand(self.norm_feed(tokens))))
        return fed


def _bias(kept: Bool[Tensor, "b l"], states: Tensor) -> Tensor:
    """0 between two positions that are kept, the most negative number elsewhere, (b, 1, l, l)."""
    both = kept[:, None, :, None] & kept[:, None, None, :]
    return torch.zeros(both.shape, dtype=states.dtype, device=states.device).masked_fill(
        ~both, torch.finfo(states.dtype).min
    )

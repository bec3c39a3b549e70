"""The last scale: what it reads is pure noise, so that it reads nothing but the scale, the prefix and itself."""

from collections.abc import Sequence

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from discrete_diffusion._types import Times, Tokens
from discrete_diffusion.blocks import to_grid
from discrete_diffusion.denoiser import Prediction
from discrete_diffusion.imagebart._types import Labels, OneLogits, OneToken, Prefix, SourceTokens
from discrete_diffusion.imagebart.denoiser import Decoding, check_tokens, source_tokens
from discrete_diffusion.imagebart.layers import Stack, initialise
from discrete_diffusion.imagebart.linear import Linear


class DecoderOnly(nn.Module, PyTorchModelHubMixin):
    """A GPT over `(t, prefix, x_{t-1})`, from left to right; `x_t` is taken, and not read.

    Args:
        codes: K.
        grid: (h, w); tokens are row-major over it, n = h w.
        width: d, a multiple of `heads`.
        depth: layers.
        heads: attention heads.
        prefix: number of tokens that condition it: 1 for a class, the length of a text, 0 for none.
        prefix_offset: added to them, where they are to have embeddings of their own instead of sharing the codes'.
        vocabulary: number of tokens that it embeds: scales, prefixes and codes; K unless given.
        unmasked: number of first positions (scale and prefix) that all see one another.

    Source: ImageBART decoder-only scale
    Source: ImageBART conditional prefixes
    """

    def __init__(
        self,
        *,
        codes: int,
        grid: Sequence[int],
        width: int,
        depth: int,
        heads: int,
        prefix: int = 0,
        prefix_offset: int = 0,
        vocabulary: int | None = None,
        unmasked: int = 0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width must be a multiple of heads, got {width} and {heads}")
        if not 0 <= unmasked <= 1 + prefix:
            raise ValueError(
                f"unmasked: only the scale and the prefix may see what follows, {1 + prefix} tokens, got {unmasked}"
            )
        self.codes, self.prefix, self.prefix_offset = codes, prefix, prefix_offset
        self.vocabulary = codes if vocabulary is None else vocabulary
        if self.vocabulary < codes:
            raise ValueError(f"vocabulary must hold the {codes} codes at least, got {vocabulary}")
        self.grid = h, w = int(grid[0]), int(grid[1])
        self.tokens = nn.Embedding(self.vocabulary, width)
        self.positions = nn.Embedding(prefix + h * w, width)
        self.decoder = Stack(width, depth, heads, width // heads, bias=True, causal=True, unmasked=unmasked)
        self.norm = nn.LayerNorm(width)
        self.logits = Linear(width, codes, bias=False)
        self.apply(initialise)

    def forward(self, x_t: Tokens, t: Times, condition: Labels | Prefix | None = None, *, target: Tokens) -> Prediction:
        """Predict `target = x_{t-1}`, each of its tokens from those before it.

        `features` are the output of the last layer, which enters the final norm and linear layer.

        Raises:
            ValueError: if tokens, scale or condition are not those that the model was built for.
        """
        check_tokens("target", target, self.grid, self.codes)
        before = self._before(t, condition)
        x = self.tokens(torch.cat([before, target[:, :-1]], 1)) + self.positions.weight
        features = self.decoder(x)[:, self.prefix :]
        return Prediction(self.logits(self.norm(features)), to_grid(features, self.grid))

    def decode(self, x_t: Tokens, t: Times, condition: Labels | Prefix | None = None) -> Decoding:
        """Begin to draw `x_{t-1}`: scale and prefix are read together, every later call costs one position.

        Raises:
            ValueError: if tokens, scale or condition are not those that the model was built for.
        """
        before = self._before(t, condition)
        caches = self.decoder.caches(len(self.positions.weight))

        def step(previous: OneToken | None) -> OneLogits:
            tokens, start = before if previous is None else previous[:, None], caches[0].next
            x = self.tokens(tokens) + self.positions.weight[start : start + tokens.shape[1]]
            logits: OneLogits = self.logits(self.norm(self.decoder(x, caches=caches)[:, -1]))
            return logits

        return step

    def _before(self, t: Times, condition: Labels | Prefix | None) -> SourceTokens:
        return source_tokens(t, condition, prefix=self.prefix, offset=self.prefix_offset, vocabulary=self.vocabulary)

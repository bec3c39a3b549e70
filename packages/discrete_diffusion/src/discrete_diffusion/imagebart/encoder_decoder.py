"""The scales 1 .. n - 1: an encoder reads the whole coarser scale, a decoder writes the finer one token by token."""

from collections.abc import Sequence

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from discrete_diffusion._types import Logits, Times, Tokens
from discrete_diffusion.blocks import to_grid
from discrete_diffusion.denoiser import Prediction
from discrete_diffusion.imagebart._types import Labels, OneLogits, OneToken, Prefix, Source
from discrete_diffusion.imagebart.denoiser import Decoding, check_tokens, has_values, source_tokens
from discrete_diffusion.imagebart.forward_process import Multinomial
from discrete_diffusion.imagebart.layers import Stack, initialise
from discrete_diffusion.imagebart.linear import Linear
from discrete_diffusion.imagebart.schedule import explicit


class EncoderDecoder(nn.Module, PyTorchModelHubMixin):
    r"""A transformer that reads `(t, prefix, x_t)` in both directions and predicts `x_{t-1}` from left to right.

    One may serve a single scale, or all of them, told apart by t. With `keep` its logits are those of the
    residual-scaled variant: `exp(s_t) logits + log(alpha_t v(x_t) + (1 - alpha_t) / K)` with a learned number `s_t` for
    each scale, from 0. So an untrained one says what the noised token alone says.

    Args:
        codes: K.
        grid: (h, w); tokens are row-major over it, n = h w.
        width: d.
        encoder_depth: layers that read.
        decoder_depth: layers that write.
        heads: attention heads, of `head_width` each.
        prefix: number of tokens that condition it: 1 for a class, the length of a text, 0 for none.
        prefix_offset: added to them, where they are to have embeddings of their own instead of sharing the codes'.
        vocabulary: number of tokens that the encoder embeds: scales, prefixes and codes; K unless given.
        keep: `abar_0 .. abar_n` of the schedule, for the residual-scaled variant, or None.
        start_token: the code that the decoder begins with.

    Source: ImageBART encoder-decoder scales
    Source: ImageBART conditional prefixes
    Unstated: whether prefixes share the embeddings of the codes; the released code lets them [vocabulary].
    """

    def __init__(
        self,
        *,
        codes: int,
        grid: Sequence[int],
        width: int,
        encoder_depth: int,
        decoder_depth: int,
        heads: int,
        head_width: int = 64,
        prefix: int = 0,
        prefix_offset: int = 0,
        vocabulary: int | None = None,
        keep: Sequence[float] | None = None,
        start_token: int = 0,
    ) -> None:
        super().__init__()
        self.codes, self.prefix, self.prefix_offset = codes, prefix, prefix_offset
        self.vocabulary = codes if vocabulary is None else vocabulary
        if self.vocabulary < codes:
            raise ValueError(f"vocabulary must hold the {codes} codes at least, got {vocabulary}")
        if not 0 <= start_token < codes:
            raise ValueError(f"start_token must be a code, 0 to {codes - 1}, got {start_token}")
        self.grid = h, w = int(grid[0]), int(grid[1])
        self.start_token = start_token
        self.source_tokens = nn.Embedding(self.vocabulary, width)
        self.source_positions = nn.Embedding(1 + prefix + h * w, width)
        self.encoder = Stack(width, encoder_depth, heads, head_width, bias=False)
        self.encoder_norm = nn.LayerNorm(width)
        self.tokens = nn.Embedding(codes, width)
        self.positions = nn.Embedding(h * w, width)
        self.decoder = Stack(width, decoder_depth, heads, head_width, bias=False, cross=True, causal=True)
        self.norm = nn.LayerNorm(width)
        self.logits = Linear(width, codes)
        self.process = None if keep is None else Multinomial(explicit(keep, codes))
        self.log_scales = None if keep is None else nn.Parameter(torch.zeros(len(keep) - 1))
        self.apply(initialise)

    def encode(self, x_t: Tokens, t: Times, condition: Labels | Prefix | None = None) -> Source:
        """Read the coarser scale in both directions: states (b, 1 + p + n, d).

        Raises:
            ValueError: if tokens, scales or condition are not those that the model was built for.
        """
        check_tokens("x_t", x_t, self.grid, self.codes)
        if self.process is not None and has_values(t) and not 1 <= int(t.min()) <= int(t.max()) <= self.process.scales:
            raise ValueError(f"t must be in 1 .. {self.process.scales}, got {t.tolist()}")
        before = source_tokens(t, condition, prefix=self.prefix, offset=self.prefix_offset, vocabulary=self.vocabulary)
        x = self.source_tokens(torch.cat([before, x_t], 1)) + self.source_positions.weight
        states: Tensor = self.encoder_norm(self.encoder(x))
        return states

    def forward(self, x_t: Tokens, t: Times, condition: Labels | Prefix | None = None, *, target: Tokens) -> Prediction:
        """Predict `target = x_{t-1}`, each of its tokens from those before it.

        `features` are the output of the decoder's last layer, which enters the final norm and linear layer.

        Raises:
            ValueError: if tokens, scales or condition are not those that the model was built for.
        """
        check_tokens("target", target, self.grid, self.codes)
        memories = self.decoder.memories(self.encode(x_t, t, condition))
        start = torch.full_like(target[:, :1], self.start_token)
        x = self.tokens(torch.cat([start, target[:, :-1]], 1)) + self.positions.weight
        features = self.decoder(x, memories)
        return Prediction(self._scaled(self.logits(self.norm(features)), x_t, t), to_grid(features, self.grid))

    def decode(self, x_t: Tokens, t: Times, condition: Labels | Prefix | None = None) -> Decoding:
        """Begin to draw `x_{t-1}`: the encoder runs now, and once; every call then costs one position.

        Raises:
            ValueError: if tokens, scales or condition are not those that the model was built for.
        """
        memories = self.decoder.memories(self.encode(x_t, t, condition))
        caches = self.decoder.caches(x_t.shape[1])
        start = torch.full_like(x_t[:, 0], self.start_token)

        def step(previous: OneToken | None) -> OneLogits:
            i = caches[0].next
            token = start if previous is None else previous
            x = self.tokens(token[:, None]) + self.positions.weight[i]
            logits = self.logits(self.norm(self.decoder(x, memories, caches=caches)))
            return self._scaled(logits, x_t[:, i : i + 1], t).squeeze(1)

        return step

    def _scaled(self, logits: Logits, x_t: Tokens, t: Times) -> Logits:
        """The logits of the residual-scaled variant, or the plain ones.

        Source: ImageBART residual-scaled logits
        """
        if self.process is None or self.log_scales is None:
            return logits
        likelihood = self.process.log_likelihood(x_t, t)
        return self.log_scales[t - 1].exp()[:, None, None] * logits.float() + likelihood.float()

"""A stack of transformer layers, with or without a source to read, with or without sight of what is to come."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_diffusion.imagebart._types import Hidden, Source, Visible
from discrete_diffusion.imagebart.attention import Cache, CrossAttention, KeysValues, SelfAttention
from discrete_diffusion.imagebart.linear import Linear


class Layer(nn.Module):
    """Self-attention, cross-attention where there is a source, feed-forward; each normalised first, each residual."""

    def __init__(self, width: int, heads: int, head_width: int, *, bias: bool, cross: bool) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(width)
        self.self_attention = SelfAttention(width, heads, head_width, bias=bias)
        self.cross_norm = nn.LayerNorm(width) if cross else None
        self.cross_attention = CrossAttention(width, heads, head_width, bias=bias) if cross else None
        self.norm = nn.LayerNorm(width)
        self.expand = Linear(width, 4 * width)
        self.contract = Linear(4 * width, width)

    def forward(
        self,
        x: Hidden,
        memory: KeysValues | None = None,
        *,
        visible: Visible | None = None,
        cache: Cache | None = None,
    ) -> Hidden:
        x = x + self.self_attention(self.self_norm(x), visible=visible, cache=cache)
        if self.cross_attention is not None and self.cross_norm is not None:
            x = x + self.cross_attention(self.cross_norm(x), memory)
        out: Tensor = x + self.contract(F.gelu(self.expand(self.norm(x))))
        return out


class Stack(nn.Module):
    """Layers one after another, (b, n, d) to (b, n, d).

    Args:
        width: d.
        depth: number of layers.
        heads: attention heads, of `head_width` each.
        bias: whether queries, keys and values have one.
        cross: whether every layer reads a source.
        causal: whether a position sees itself and earlier ones only.
        unmasked: number of first positions that all see one another nevertheless.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        head_width: int,
        *,
        bias: bool,
        cross: bool = False,
        causal: bool = False,
        unmasked: int = 0,
    ) -> None:
        super().__init__()
        self.causal, self.unmasked = causal, unmasked
        self.layers = nn.ModuleList(Layer(width, heads, head_width, bias=bias, cross=cross) for _ in range(depth))

    def caches(self, room: int) -> list[Cache]:
        """An empty cache for each layer, of `room` positions."""
        return [Cache(room) for _ in self.layers]

    def memories(self, source: Source) -> list[KeysValues]:
        """What each layer reads of a source (b, m, d)."""
        readers = [layer.cross_attention for layer in self.layers if isinstance(layer, Layer)]
        return [reader.memory(source) for reader in readers if reader is not None]

    def forward(
        self,
        x: Hidden,
        memories: Sequence[KeysValues] | None = None,
        *,
        caches: Sequence[Cache] | None = None,
    ) -> Hidden:
        """The last layer's output for `x`; with caches, `x` are the positions after those that they hold."""
        past = 0 if caches is None else caches[0].length
        visible = self._visible(past, x.shape[1], x.device)
        for i, layer in enumerate(self.layers):
            x = layer(
                x,
                None if memories is None else memories[i],
                visible=visible,
                cache=None if caches is None else caches[i],
            )
        return x

    def _visible(self, past: int, n: int, device: torch.device) -> Visible | None:
        """Whether position `past + i` sees position j, (n, past + n); None where all see all."""
        if not self.causal or n == 1:
            return None
        visible = torch.ones(past + n, past + n, dtype=torch.bool, device=device).tril()
        visible[: self.unmasked, : self.unmasked] = True
        return visible[past:]


def initialise(module: nn.Module) -> None:
    """Normal weights of standard deviation 0.02, biases of 0; without memory there is nothing to draw.

    Unstated: the initialisation; 0.02 throughout [fixed].
    """
    if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
        return
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)

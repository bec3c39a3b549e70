"""Shapes. `b` batch, `n = h w` positions, `k` codes, `m = k + 1` states (mask last), `d` width, `l` length."""

from collections.abc import Sequence
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

Tokens: TypeAlias = Int64[Tensor, "b n"]
TokenMask: TypeAlias = Bool[Tensor, "b n"]
PixelMask: TypeAlias = Shaped[Tensor, "b 1 H W"]
CaptionTokens: TypeAlias = Int64[Tensor, "b l"]
Visible: TypeAlias = Float[Tensor, "b 1 1 n"]
Times: TypeAlias = Int64[Tensor, " b"]
Labels: TypeAlias = Int64[Tensor, " b"]
States: TypeAlias = Float[Tensor, "b l d_c"]
Condition: TypeAlias = States | Labels
Logits: TypeAlias = Float[Tensor, "b n k"]
LogCodes: TypeAlias = Float[Tensor, "b n k"]
LogStates: TypeAlias = Float[Tensor, "b n m"]
PerToken: TypeAlias = Float[Tensor, "b n"]
PerExample: TypeAlias = Float[Tensor, " b"]
Features: TypeAlias = Float[Tensor, "b d h w"]
Grid: TypeAlias = Float[Tensor, "b d h w"]
Embedding: TypeAlias = Float[Tensor, "b d"]
Modulations: TypeAlias = Float[Tensor, "b two_d"]
Column: TypeAlias = Float[Tensor, "b 1"]
Hidden: TypeAlias = Float[Tensor, "b n d"]
Heads: TypeAlias = Float[Tensor, "b a n e"]
Cumulative: TypeAlias = Float[Tensor, " steps"]
Generators: TypeAlias = torch.Generator | Sequence[torch.Generator] | None

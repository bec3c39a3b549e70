"""Names of the tensor shapes: b batch, c channels, d feature width, h w grid, n = h w tokens, l condition length."""

from collections.abc import Sequence
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

Images: TypeAlias = Float[Tensor, "b c h w"]
Features: TypeAlias = Float[Tensor, "b d h w"]
LastFeatures: TypeAlias = Float[Tensor, "b d h_f w_f"]
Tokens: TypeAlias = Float[Tensor, "b n d"]
Heads: TypeAlias = Float[Tensor, "b heads n d"]
OtherHeads: TypeAlias = Float[Tensor, "b heads m d"]
States: TypeAlias = Float[Tensor, "b l d_c"]
Times: TypeAlias = Int64[Tensor, "b"]
Labels: TypeAlias = Int64[Tensor, "_"]
Rows: TypeAlias = Bool[Tensor, "b"]
PerExample: TypeAlias = Float[Tensor, "b"]
Signal: TypeAlias = Float64[Tensor, "b"]
Levels: TypeAlias = Float64[Tensor, "_"]

Generators: TypeAlias = torch.Generator | Sequence[torch.Generator] | None

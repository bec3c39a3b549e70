"""Shapes: `b` batch, `c` channels, `H W` pixels, `h w` latent grid, `d` code width, `k` codebook entries."""

from __future__ import annotations

from typing import TypeAlias

from jaxtyping import Float, Int64
from torch import Tensor

Images: TypeAlias = Float[Tensor, "b c H W"]
Grid: TypeAlias = Float[Tensor, "b d h w"]
Rows: TypeAlias = Float[Tensor, "n d"]
TokenGrid: TypeAlias = Int64[Tensor, "b h w"]
TokenRow: TypeAlias = Int64[Tensor, " n"]
Codebook: TypeAlias = Float[Tensor, "k d"]
PerCode: TypeAlias = Float[Tensor, " k"]
PerExample: TypeAlias = Float[Tensor, " b"]
Logits: TypeAlias = Float[Tensor, "b 1 u v"]
Scalar: TypeAlias = Float[Tensor, ""]

"""Shapes of this subpackage: `a` heads of width `e`, `m` positions that are read, a prefix of `p`."""

from typing import TypeAlias

from jaxtyping import Bool, Float, Int64
from torch import Tensor

Codes: TypeAlias = Float[Tensor, "b n k"]
PerTime: TypeAlias = Float[Tensor, " b"]
Mask: TypeAlias = Bool[Tensor, "b n"]
Prefix: TypeAlias = Int64[Tensor, "b p"]
SourceTokens: TypeAlias = Int64[Tensor, "b s"]
Labels: TypeAlias = Int64[Tensor, " b"]
Heads: TypeAlias = Float[Tensor, "b a n e"]
SourceHeads: TypeAlias = Float[Tensor, "b a m e"]
Hidden: TypeAlias = Float[Tensor, "b n d"]
Source: TypeAlias = Float[Tensor, "b m d"]
Visible: TypeAlias = Bool[Tensor, "n m"]
OneLogits: TypeAlias = Float[Tensor, "b k"]
OneToken: TypeAlias = Int64[Tensor, " b"]
ScaleTerms: TypeAlias = Float[Tensor, "scales b"]
GivenMask: TypeAlias = Bool[Tensor, "..."]
GivenGuide: TypeAlias = Float[Tensor, "..."]

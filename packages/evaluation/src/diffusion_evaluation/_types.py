"""Shapes that cross the package: `n` images, `d` feature width, `b` batch, `H W` pixels."""

from jaxtyping import Bool, Float, Float64, Int64, UInt8
from torch import Tensor

Images = UInt8[Tensor, "b 3 H W"]
FloatImages = Float[Tensor, "b c H W"]
Features = Float[Tensor, "n d"]
RealFeatures = Float[Tensor, "n_real d"]
FakeFeatures = Float[Tensor, "n_fake d"]
Mean = Float64[Tensor, "d"]
Covariance = Float64[Tensor, "d d"]
Indices = Int64[Tensor, "n"]
PerImage = Float[Tensor, "n"]
Successes = Bool[Tensor, "n"]
Patches = Float[Tensor, "m 3 s s"]
Projections = Float[Tensor, "directions m"]

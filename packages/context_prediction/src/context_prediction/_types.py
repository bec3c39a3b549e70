"""Shapes. `b` batch, `c` channels, `d` feature width, `p` neighbours, `q` samples, `grid` the spatial axes."""

from jaxtyping import Bool, Float, Int64
from torch import Tensor

Features = Float[Tensor, "b d *grid"]
Grid = Float[Tensor, "b c *grid"]
Samples = Float[Tensor, "b q c *grid"]
Ordered = Float[Tensor, "b p c *grid"]
Units = Float[Tensor, "b *grid"]
PerExample = Float[Tensor, " b"]
Times = Int64[Tensor, " b"]
Levels = Float[Tensor, " steps"]
Sequences = Float[Tensor, "b n d"]
LogProbabilities = Float[Tensor, "b k *grid"]
OrderedLogProbabilities = Float[Tensor, "b p k *grid"]
Tokens = Int64[Tensor, "b *grid"]
Scalar = Float[Tensor, ""]

Positions = Int64[Tensor, "p *grid"]
Existing = Bool[Tensor, "p *grid"]
Counts = Int64[Tensor, "*grid"]
Draws = Int64[Tensor, "b *grid q"]
Slab = Int64[Tensor, "b *units q"]
Drawn = Float[Tensor, "b q c *units"]
Masses = Float[Tensor, "p *grid"]

LeftSet = Float[Tensor, "*units q c"]
RightSet = Float[Tensor, "*units q c"]
Costs = Float[Tensor, "*units q q"]
Matching = Int64[Tensor, "*units q"]
Distances = Float[Tensor, "*units"]

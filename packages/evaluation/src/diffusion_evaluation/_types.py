"""Shapes that cross the package: `n` images, `d` feature width, `b` batch, `H W` pixels.

Arguments whose agreement a function checks itself, to say what is wrong, bind axes of different names.
"""

from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, UInt8
from torch import Tensor

Images = UInt8[Tensor, "b 3 H W"]
RealImages = UInt8[Tensor, "b_real 3 H_real W_real"]
FakeImages = UInt8[Tensor, "b_fake 3 H_fake W_fake"]
FloatImages = Float[Tensor, "b c H W"]
Resized = Float[Tensor, "b 3 H_out W_out"]
ResizedBytes = UInt8[Tensor, "b 3 H_out W_out"]
Masks = Bool[Tensor, "n_masks 1 H W"]
Taps = Float64[Tensor, "wanted size"]
Features = Float[Tensor, "n d"]
RealFeatures = Float[Tensor, "n_real d_real"]
FakeFeatures = Float[Tensor, "n_fake d_fake"]
Rows: TypeAlias = Features | Float[np.ndarray, "n d"]
RealRows: TypeAlias = RealFeatures | Float[np.ndarray, "n_real d_real"]
FakeRows: TypeAlias = FakeFeatures | Float[np.ndarray, "n_fake d_fake"]
CaptionRows: TypeAlias = Float[Tensor, "n_captions d_captions"] | Float[np.ndarray, "n_captions d_captions"]
Maps: TypeAlias = Float[Tensor, "n c h w"] | Float[np.ndarray, "n c h w"]
RealMaps: TypeAlias = Float[Tensor, "n_real c_real h_real w_real"] | Float[np.ndarray, "n_real c_real h_real w_real"]
FakeMaps: TypeAlias = Float[Tensor, "n_fake c_fake h_fake w_fake"] | Float[np.ndarray, "n_fake c_fake h_fake w_fake"]
Mean = Float64[Tensor, " d"]
Covariance = Float64[Tensor, "d d"]
Factor = Float64[Tensor, "d r"]
Matrix = Float64[Tensor, "r s"]
Scalar = Float64[Tensor, ""]
Indices = Int64[Tensor, " n_indices"]
FirstImages = Float[Tensor, "b_first c_first H_first W_first"]
SecondImages = Float[Tensor, "b_second c_second H_second W_second"]
PerTap = Float[Tensor, "b taps"]
PerImage = Float[Tensor, " n"]
LogProbabilities = Float64[Tensor, "n classes"]
PerRow = Float[Tensor, " n_rows"]
PerSplit = Float64[Tensor, " splits"]
Successes = Bool[Tensor, " n"]
Patches = Float[Tensor, "m 3 s s"]
RealProjections = Float[Tensor, "directions m_real"]
FakeProjections = Float[Tensor, "directions m_fake"]
PerDirection = Float[Tensor, " directions"]

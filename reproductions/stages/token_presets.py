"""The published denoisers of tokens by name; by themselves, since the sizes of the tables are made of them."""

from discrete_diffusion.presets import PRESETS as PRESETS
from discrete_diffusion.presets import Preset as Preset

"""The published denoisers of latents and pixels by name, and what reads captions and classes for them."""

from continuous_diffusion.conditioning import ClassStates as ClassStates
from continuous_diffusion.objective import absolute as absolute
from continuous_diffusion.presets import PRESETS as PRESETS
from continuous_diffusion.presets import Preset as Preset
from continuous_diffusion.text import FrozenText as FrozenText
from continuous_diffusion.token_encoder import TokenEncoder as TokenEncoder

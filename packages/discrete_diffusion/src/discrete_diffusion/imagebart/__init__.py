"""ImageBART: tokens redrawn scale after scale, and a transformer that goes back each scale token by token.

The forward process is `Multinomial`, from the clean tokens (t = 0) to pure noise (t = n). A scale's denoiser reads all
of the coarser scale at once, and writes the finer one from left to right: `EncoderDecoder`, or, where the coarser scale
is pure noise, `DecoderOnly`. `sample` goes from coarse to fine, `edit` draws again what is inside a mask.
"""

from discrete_diffusion.imagebart.checkpoints import from_imagebart as from_imagebart
from discrete_diffusion.imagebart.checkpoints import load_imagebart as load_imagebart
from discrete_diffusion.imagebart.checkpoints import read_imagebart as read_imagebart
from discrete_diffusion.imagebart.decoder_only import DecoderOnly as DecoderOnly
from discrete_diffusion.imagebart.denoiser import Decoding as Decoding
from discrete_diffusion.imagebart.denoiser import ScaleDenoiser as ScaleDenoiser
from discrete_diffusion.imagebart.editing import edit as edit
from discrete_diffusion.imagebart.encoder_decoder import EncoderDecoder as EncoderDecoder
from discrete_diffusion.imagebart.forward_process import Multinomial as Multinomial
from discrete_diffusion.imagebart.forward_process import Pair as Pair
from discrete_diffusion.imagebart.model import ImageBART as ImageBART
from discrete_diffusion.imagebart.objective import Bound as Bound
from discrete_diffusion.imagebart.objective import ScaleObjective as ScaleObjective
from discrete_diffusion.imagebart.objective import bound as bound
from discrete_diffusion.imagebart.presets import PRESETS as PRESETS
from discrete_diffusion.imagebart.presets import Preset as Preset
from discrete_diffusion.imagebart.sampler import Filter as Filter
from discrete_diffusion.imagebart.sampler import draw_scale as draw_scale
from discrete_diffusion.imagebart.sampler import sample as sample
from discrete_diffusion.imagebart.sampler import trajectory as trajectory
from discrete_diffusion.imagebart.schedule import equidistant as equidistant
from discrete_diffusion.imagebart.schedule import explicit as explicit
from discrete_diffusion.imagebart.schedule import geometric as geometric

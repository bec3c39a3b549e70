"""Mask-and-replace diffusion over tokens: VQ-Diffusion and Improved VQ-Diffusion.

Three nouns: a *schedule* says how likely a token is kept, masked or replaced by time t; a *denoiser* predicts the clean
tokens from the noised ones; a *sampler* goes from noise to tokens with it. The formulas between them are the forward
process and its posterior, the objective, and guidance.
"""

from discrete_diffusion import imagebart as imagebart
from discrete_diffusion.captions import BytePairs as BytePairs
from discrete_diffusion.captions import CaptionEncoder as CaptionEncoder
from discrete_diffusion.checkpoints import from_vq_diffusion as from_vq_diffusion
from discrete_diffusion.clip_text import ClipText as ClipText
from discrete_diffusion.denoiser import Denoiser as Denoiser
from discrete_diffusion.denoiser import Prediction as Prediction
from discrete_diffusion.denoiser import TokenTransformer as TokenTransformer
from discrete_diffusion.diffusers_folders import from_diffusers as from_diffusers
from discrete_diffusion.diffusers_folders import read_diffusers as read_diffusers
from discrete_diffusion.diffusers_folders import write_diffusers as write_diffusers
from discrete_diffusion.fewer_tokens import FewerTokens as FewerTokens
from discrete_diffusion.fewer_tokens import Round as Round
from discrete_diffusion.fewer_tokens import evenly as evenly
from discrete_diffusion.fewer_tokens import purity as purity
from discrete_diffusion.fewer_tokens import released_rounds as released_rounds
from discrete_diffusion.forward_process import ForwardProcess as ForwardProcess
from discrete_diffusion.guidance import Guided as Guided
from discrete_diffusion.imagebart import from_imagebart as from_imagebart
from discrete_diffusion.inpainting import inpaint as inpaint
from discrete_diffusion.masks import Kept as Kept
from discrete_diffusion.masks import token_mask as token_mask
from discrete_diffusion.objective import Denoising as Denoising
from discrete_diffusion.objective import Objective as Objective
from discrete_diffusion.one_by_one import OneByOne as OneByOne
from discrete_diffusion.prepared import Prepared as Prepared
from discrete_diffusion.presets import PRESETS as PRESETS
from discrete_diffusion.presets import Preset as Preset
from discrete_diffusion.presets import Recipe as Recipe
from discrete_diffusion.released_files import ReleasedParts as ReleasedParts
from discrete_diffusion.released_files import read_vq_diffusion as read_vq_diffusion
from discrete_diffusion.released_files import split_vq_diffusion as split_vq_diffusion
from discrete_diffusion.routes import Exact as Exact
from discrete_diffusion.routes import ReleasedStride as ReleasedStride
from discrete_diffusion.routes import by_gumbel_noise as by_gumbel_noise
from discrete_diffusion.routes import directly as directly
from discrete_diffusion.sampler import State as State
from discrete_diffusion.sampler import sample as sample
from discrete_diffusion.sampler import trajectory as trajectory
from discrete_diffusion.sampler import truncate as truncate
from discrete_diffusion.schedule import Schedule as Schedule
from discrete_diffusion.time_sampling import ImportanceTimes as ImportanceTimes
from discrete_diffusion.time_sampling import UniformTimes as UniformTimes

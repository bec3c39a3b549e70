"""Gaussian diffusion over latents or pixels, in three nouns.

* A **schedule** says how much of the clean image is left at each step; the forward process follows from it.
* A **denoiser** answers `denoiser(x_t, t, condition)` with a prediction, in the coordinate of a target.
* A **sampler** walks from noise to image by asking a denoiser; an **objective** trains one.
"""

from continuous_diffusion.checkpoints import LatentDiffusion as LatentDiffusion
from continuous_diffusion.checkpoints import Pipeline as Pipeline
from continuous_diffusion.checkpoints import from_compvis as from_compvis
from continuous_diffusion.checkpoints import from_diffusers as from_diffusers
from continuous_diffusion.checkpoints import from_dit as from_dit
from continuous_diffusion.checkpoints import from_guided_diffusion as from_guided_diffusion
from continuous_diffusion.checkpoints import latent_diffusion_from_compvis as latent_diffusion_from_compvis
from continuous_diffusion.checkpoints import read_diffusers as read_diffusers
from continuous_diffusion.checkpoints import read_diffusers_pipeline as read_diffusers_pipeline
from continuous_diffusion.checkpoints import read_weights as read_weights
from continuous_diffusion.checkpoints import to_diffusers as to_diffusers
from continuous_diffusion.checkpoints import token_encoder_from_compvis as token_encoder_from_compvis
from continuous_diffusion.checkpoints import write_diffusers as write_diffusers
from continuous_diffusion.checkpoints import write_diffusers_pipeline as write_diffusers_pipeline
from continuous_diffusion.conditioning import ClassStates as ClassStates
from continuous_diffusion.conditioning import MapRescaler as MapRescaler
from continuous_diffusion.conditioning import beside_hole as beside_hole
from continuous_diffusion.conditioning import one_hot_maps as one_hot_maps
from continuous_diffusion.denoiser import Condition as Condition
from continuous_diffusion.denoiser import ConditionalDenoiser as ConditionalDenoiser
from continuous_diffusion.denoiser import Denoiser as Denoiser
from continuous_diffusion.denoiser import Prediction as Prediction
from continuous_diffusion.denoiser import PredictionWithVariance as PredictionWithVariance
from continuous_diffusion.dit import DiT as DiT
from continuous_diffusion.forward_process import ForwardProcess as ForwardProcess
from continuous_diffusion.forward_process import Gaussian as Gaussian
from continuous_diffusion.guidance import Guided as Guided
from continuous_diffusion.layout import Box as Box
from continuous_diffusion.layout import LayoutTokens as LayoutTokens
from continuous_diffusion.objective import Denoising as Denoising
from continuous_diffusion.objective import Objective as Objective
from continuous_diffusion.objective import absolute as absolute
from continuous_diffusion.objective import squared as squared
from continuous_diffusion.predictor import DynamicThreshold as DynamicThreshold
from continuous_diffusion.presets import PRESETS as PRESETS
from continuous_diffusion.presets import Preset as Preset
from continuous_diffusion.sampler import State as State
from continuous_diffusion.sampler import sample as sample
from continuous_diffusion.sampler import trajectory as trajectory
from continuous_diffusion.schedule import Betas as Betas
from continuous_diffusion.schedule import Schedule as Schedule
from continuous_diffusion.solvers import ancestral as ancestral
from continuous_diffusion.solvers import ddim as ddim
from continuous_diffusion.solvers import dpm_solver as dpm_solver
from continuous_diffusion.solvers import heun as heun
from continuous_diffusion.solvers import plms as plms
from continuous_diffusion.spacing import evenly as evenly
from continuous_diffusion.spacing import evenly_in_log_snr as evenly_in_log_snr
from continuous_diffusion.spacing import leading as leading
from continuous_diffusion.spacing import quadratic as quadratic
from continuous_diffusion.spacing import spanning as spanning
from continuous_diffusion.spacing import strided as strided
from continuous_diffusion.spacing import trailing as trailing
from continuous_diffusion.target import Clean as Clean
from continuous_diffusion.target import Displacement as Displacement
from continuous_diffusion.target import Epsilon as Epsilon
from continuous_diffusion.target import Target as Target
from continuous_diffusion.target import Velocity as Velocity
from continuous_diffusion.text import FrozenText as FrozenText
from continuous_diffusion.text import WordPieces as WordPieces
from continuous_diffusion.token_encoder import TokenEncoder as TokenEncoder
from continuous_diffusion.unet import UNet as UNet
from continuous_diffusion.weighting import MinSnr as MinSnr
from continuous_diffusion.weighting import by_snr as by_snr
from continuous_diffusion.weighting import of_the_bound as of_the_bound

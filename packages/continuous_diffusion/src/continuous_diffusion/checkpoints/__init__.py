"""Readers of official files, pure functions from tensors and constructor arguments to a module; diffusers folders.

Every key of a file is placed, handed back by name, or named in an error. Nothing is unpickled.
"""

from continuous_diffusion.checkpoints.diffusers import from_diffusers as from_diffusers
from continuous_diffusion.checkpoints.diffusers import to_diffusers as to_diffusers
from continuous_diffusion.checkpoints.files import read_weights as read_weights
from continuous_diffusion.checkpoints.latent_diffusion import LatentDiffusion as LatentDiffusion
from continuous_diffusion.checkpoints.latent_diffusion import (
    latent_diffusion_from_compvis as latent_diffusion_from_compvis,
)
from continuous_diffusion.checkpoints.pipelines import Pipeline as Pipeline
from continuous_diffusion.checkpoints.pipelines import read_diffusers as read_diffusers
from continuous_diffusion.checkpoints.pipelines import read_diffusers_pipeline as read_diffusers_pipeline
from continuous_diffusion.checkpoints.pipelines import write_diffusers as write_diffusers
from continuous_diffusion.checkpoints.pipelines import write_diffusers_pipeline as write_diffusers_pipeline
from continuous_diffusion.checkpoints.transformers import from_dit as from_dit
from continuous_diffusion.checkpoints.transformers import token_encoder_from_compvis as token_encoder_from_compvis
from continuous_diffusion.checkpoints.unets import from_compvis as from_compvis
from continuous_diffusion.checkpoints.unets import from_guided_diffusion as from_guided_diffusion

"""Somebody else's latents, trained on for a step and sampled."""

from typing import assert_type

import torch
from torch import Tensor

from continuous_diffusion import Denoising, ForwardProcess, Objective, Schedule, UNet, Velocity, sample

process = ForwardProcess(Schedule.cosine(100))
denoiser = UNet(
    in_channels=4, out_channels=4, channels=32, multipliers=(1, 2), residual_blocks=1, attention_at=(2,), heads=2
)
denoising: Denoising = Objective(denoiser, process, target=Velocity())(torch.randn(2, 4, 8, 8))
denoising.loss.mean().backward()
seeds = [torch.Generator().manual_seed(i) for i in range(2)]
samples = sample(denoiser, (2, 4, 8, 8), process=process, target=Velocity(), steps=3, clip=3.5, generator=seeds)
assert_type(denoising.loss, Tensor)
assert_type(samples, Tensor)
assert samples.shape == (2, 4, 8, 8)

"""Somebody else's tokens, trained on for a step and sampled."""

from typing import assert_type

import torch
from torch import Tensor

from discrete_diffusion import Denoising, ForwardProcess, Objective, Schedule, TokenTransformer, sample

process = ForwardProcess(Schedule.paper(T=20, codes=16))
denoiser = TokenTransformer(codes=16, grid=(4, 4), steps=20, width=16, depth=1, heads=2, condition_width=8)
tokens, caption = torch.randint(16, (2, 16)), torch.randn(2, 5, 8)
denoising: Denoising = Objective(denoiser, process)(tokens, caption)
denoising.loss.mean().backward()
seeds = [torch.Generator().manual_seed(i) for i in range(2)]
drawn = sample(denoiser, (2, 16), caption, process=process, steps=3, truncation=0.86, generator=seeds)
assert_type(denoising.loss, Tensor)
assert_type(drawn, Tensor)
assert drawn.shape == (2, 16)

"""Somebody else's pictures, scored in a feature space without weights."""

from typing import assert_type

import torch

from diffusion_evaluation import Score, frechet_distance, pixel_space, sliced_wasserstein

generator = torch.Generator().manual_seed(0)
real = torch.randint(0, 200, (96, 3, 32, 32), dtype=torch.uint8, generator=generator)
fake = torch.randint(0, 256, (80, 3, 32, 32), dtype=torch.uint8, generator=generator)
space = pixel_space(2)
fid = frechet_distance(space(real), space(fake), space=space.identity)
assert_type(fid, Score)
print(fid)
print(sliced_wasserstein(real, fake, directions=16).mean)
assert frechet_distance(space(real), space(real), space=space.identity).value < fid.value

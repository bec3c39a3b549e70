"""Somebody else's pictures, through a first stage and back."""

from typing import assert_type

import torch
from torch import Tensor

from vq_autoencoder import Autoencoding, FirstStageObjective, VQAutoencoder, gradient_difference

vq = VQAutoencoder(
    codes=64, code_width=8, channels=16, multipliers=(1,), residual_blocks=1, mid_blocks=0, resolution=32, patch=4
)
images = torch.rand(2, 3, 32, 32) * 2 - 1
autoencoding: Autoencoding = FirstStageObjective(vq, perceptual=gradient_difference)(images)
autoencoding.loss.mean().backward()
tokens = vq.eval().encode(images)
pictures = vq.decode(tokens.indices)
assert_type(autoencoding.loss, Tensor)
assert_type(tokens.indices, Tensor)
assert_type(pictures, Tensor)
assert pictures.shape == images.shape

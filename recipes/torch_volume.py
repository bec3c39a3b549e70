"""A volume, such as a scan: grids of three dimensions, here predicted clean."""

import checks
import torch
from torch import nn
from torch.nn import functional as F

from context_prediction import ContextPrediction, Linear, capture  # + 1

torch.manual_seed(0)
volumes = F.interpolate(torch.randn(2, 1, 3, 3, 3), size=8, mode="trilinear")  # (b, c, depth, height, width)


def denoiser() -> nn.Sequential:
    """Three layers of convolution; a mask channel tells the noise level."""
    return nn.Sequential(
        nn.Conv3d(2, 16, 3, padding=1), nn.SiLU(), nn.Conv3d(16, 16, 3, padding=1), nn.SiLU(), nn.Conv3d(16, 1, 1)
    )


model = denoiser()
context, weight = ContextPrediction(features=16, target=1, stride=1, dimensions=3), Linear(0.1, T=1000)  # + 2
captured = capture(model, "4")  # + 3
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
optimizer.add_param_group({"params": context.parameters()})  # + 4
losses, pristine = checks.watch(context), denoiser()

for _ in range(60):
    t = torch.randint(1, 1001, (2,))
    level = (t / 1000).reshape(-1, 1, 1, 1, 1)
    noisy = (1 - level) * volumes + level * torch.randn_like(volumes)
    prediction = model(torch.cat([noisy, level.expand_as(noisy)], 1))
    loss = (prediction - volumes).square().mean((1, 2, 3, 4))
    loss = loss + weight(t) * context(captured.input, volumes).loss  # + 5
    optimizer.zero_grad()
    loss.mean().backward()
    optimizer.step()

captured.close()
checks.falls(losses)
noise = torch.randn(2, 2, 8, 8, 8)
checks.leaves_nothing(model, pristine, lambda network: network(noise))

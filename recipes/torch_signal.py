"""A signal: grids of one dimension."""

import checks
import torch
from torch import nn
from torch.nn import functional as F

from context_prediction import ContextPrediction, Signal, capture  # + 1

torch.manual_seed(0)
abar = torch.cos(torch.linspace(0, torch.pi / 2, 1001)).square()
signals = F.interpolate(torch.randn(8, 2, 8), size=64, mode="linear")  # (b, c, length)


def denoiser() -> nn.Sequential:
    """Three layers of convolution along the signal; a mask channel tells the noise level."""
    return nn.Sequential(
        nn.Conv1d(3, 32, 5, padding=2), nn.SiLU(), nn.Conv1d(32, 32, 5, padding=2), nn.SiLU(), nn.Conv1d(32, 2, 1)
    )


model = denoiser()
context, weight = ContextPrediction(features=32, target=2, dimensions=1), Signal(0.1, abar)  # + 2
captured = capture(model, "4")  # + 3
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
optimizer.add_param_group({"params": context.parameters()})  # + 4
losses, pristine = checks.watch(context), denoiser()

for _ in range(60):
    t = torch.randint(1, 1001, (8,))
    level, noise = abar[t].reshape(-1, 1, 1), torch.randn_like(signals)
    noisy = level.sqrt() * signals + (1 - level).sqrt() * noise
    prediction = model(torch.cat([noisy, level.expand(-1, 1, 64)], 1))
    loss = (prediction - noise).square().mean((1, 2))
    loss = loss + weight(t) * context(captured.input, signals).loss  # + 5
    optimizer.zero_grad()
    loss.mean().backward()
    optimizer.step()

captured.close()
checks.falls(losses)
noise = torch.randn(8, 3, 64)
checks.leaves_nothing(model, pristine, lambda network: network(noise))

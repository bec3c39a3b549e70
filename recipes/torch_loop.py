"""A loop of one's own: a convolutional denoiser of images that predicts noise."""

import checks
import torch
from torch import nn
from torch.nn import functional as F

from context_prediction import ContextPrediction, Signal, capture  # + 1

torch.manual_seed(0)
abar = torch.cos(torch.linspace(0, torch.pi / 2, 1001)).square()
images = F.interpolate(torch.randn(4, 3, 2, 2), size=16, mode="bilinear")


class Denoiser(nn.Module):
    """Two hidden layers; the input of `last` is what the head sees."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.time = nn.Conv2d(3, 32, 3, padding=1), nn.Linear(1, 32)
        self.middle, self.last = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        time = self.time(t[:, None] / 1000)[..., None, None]
        return self.last(F.silu(self.middle(F.silu(self.first(x) + time))))


model = Denoiser()
context, weight = ContextPrediction(features=32, target=3), Signal(0.1, abar)  # + 2
captured = capture(model, "last")  # + 3
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
optimizer.add_param_group({"params": context.parameters()})  # + 4
losses, pristine = checks.watch(context), Denoiser()

for _ in range(60):
    t = torch.randint(1, 1001, (4,))
    signal, noise = abar[t].reshape(-1, 1, 1, 1), torch.randn_like(images)
    prediction = model(signal.sqrt() * images + (1 - signal).sqrt() * noise, t)
    loss = (prediction - noise).square().mean((1, 2, 3))
    loss = loss + weight(t) * context(captured.input, images).loss  # + 5
    optimizer.zero_grad()
    loss.mean().backward()
    optimizer.step()

captured.close()
checks.falls(losses)
noise = torch.randn_like(images)
checks.leaves_nothing(model, pristine, lambda denoiser: denoiser(noise, torch.full((4,), 1000)))

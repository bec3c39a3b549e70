"""A training loop of somebody else's that adds the context-prediction loss."""

from typing import assert_type

import torch
from torch import Tensor, nn

from context_prediction import ContextLoss, ContextPrediction, Signal, capture, total_loss

model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 3, 3, padding=1))
abar = torch.cos(torch.linspace(0, torch.pi / 2, 11)).square()
context, weight = ContextPrediction(features=16, target=3), Signal(0.1, abar)
x_0, t = torch.randn(2, 3, 8, 8), torch.tensor([3, 7])
with capture(model, "2") as captured:
    error = (model(x_0) - x_0).square().mean((1, 2, 3))
    found: ContextLoss = context(captured.input, x_0)
total = total_loss(error, found.loss, weight(t))
total.loss.mean().backward()
assert_type(found.loss, Tensor)
assert_type(total.loss, Tensor)
assert total.loss.shape == (2,)

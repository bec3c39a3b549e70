"""denoising-diffusion-pytorch: its wrapper draws the times inside, so they are captured as the features are."""

import checks
import torch
from denoising_diffusion_pytorch import GaussianDiffusion, Unet
from torch.nn import functional as F

from context_prediction import ContextPrediction, Signal, capture  # + 1

torch.manual_seed(0)
images = F.interpolate(torch.rand(4, 3, 2, 2), size=16, mode="bilinear")  # in [0, 1], as the wrapper wants them


def unet() -> Unet:
    """The smallest of its kind: 16 channels at the last layer."""
    return Unet(dim=16, dim_mults=(1, 2))


def wrapped(model: Unet) -> GaussianDiffusion:
    """Three steps of DDIM in sampling."""
    return GaussianDiffusion(model, image_size=16, timesteps=1000, sampling_timesteps=3)


diffusion = wrapped(unet())
context, weight = ContextPrediction(features=16, target=3), Signal(0.1, diffusion.alphas_cumprod)  # + 2
captured, times = capture(diffusion.model, "final_conv"), capture(diffusion.model, "time_mlp")  # + 3
optimizer = torch.optim.Adam(diffusion.parameters(), lr=3e-3)
optimizer.add_param_group({"params": context.parameters()})  # + 4
losses, pristine = checks.watch(context), unet()

for _ in range(150):
    loss = diffusion(images, loss_reduction="none")
    loss += weight(times.input) * context(captured.input, diffusion.normalize(images)).loss  # + 5
    loss.mean().backward()
    optimizer.step()
    optimizer.zero_grad()

captured.close()
times.close()
checks.falls(losses)


def sample(model: Unet) -> torch.Tensor:
    """Two images from one seed."""
    torch.manual_seed(1)
    return wrapped(model).sample(batch_size=2)


checks.leaves_nothing(diffusion.model, pristine, sample)

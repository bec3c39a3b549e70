"""diffusers: `DiTTransformer2DModel`, whose features are tokens, one per patch of 2 x 2 latents."""

import checks
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DiTTransformer2DModel
from torch.nn import functional as F

from context_prediction import ContextPrediction, Signal, as_grid, capture  # + 1

torch.manual_seed(0)
latents, labels = F.interpolate(torch.randn(4, 4, 2, 2), size=16, mode="bilinear"), torch.arange(4)


def dit() -> DiTTransformer2DModel:
    """The smallest of its kind: 8 x 8 tokens of width 32."""
    return DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        sample_size=16,
        patch_size=2,
        num_embeds_ada_norm=4,
    )


model = dit()
noise_scheduler = DDPMScheduler(num_train_timesteps=1000)
context, weight = ContextPrediction(features=32, target=16), Signal(0.1, noise_scheduler.alphas_cumprod)  # + 2
captured = capture(model, "norm_out")  # + 3
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
optimizer.add_param_group({"params": context.parameters()})  # + 4
losses, pristine = checks.watch(context), dit()

for _ in range(60):
    noise = torch.randn_like(latents)
    timesteps = torch.randint(0, noise_scheduler.config.num_train_timesteps, (len(latents),))
    noisy = noise_scheduler.add_noise(latents, noise, timesteps)
    loss = F.mse_loss(model(noisy, timesteps, labels).sample, noise, reduction="none").mean((1, 2, 3))
    loss += weight(timesteps) * context(as_grid(captured.input, 8, 8), F.pixel_unshuffle(latents, 2)).loss  # + 5
    optimizer.zero_grad()
    loss.mean().backward()
    optimizer.step()

captured.close()
checks.falls(losses)


def sample(network: DiTTransformer2DModel) -> torch.Tensor:
    """Three steps of DDIM from one noise."""
    scheduler, x = DDIMScheduler.from_config(noise_scheduler.config), latents
    scheduler.set_timesteps(3)
    for t in scheduler.timesteps:
        x = scheduler.step(network.eval()(x, t.expand(4), labels).sample, t, x).prev_sample
    return x


checks.leaves_nothing(model, pristine, sample)

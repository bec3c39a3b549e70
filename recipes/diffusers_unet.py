"""diffusers: `UNet2DModel` in the loop of its unconditional training example, with Accelerate."""

import checks
import torch
from accelerate import Accelerator
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from torch.nn import functional as F

from context_prediction import ContextPrediction, Signal, capture  # + 1

torch.manual_seed(0)
images = F.interpolate(torch.randn(4, 3, 2, 2), size=16, mode="bilinear")


def unet() -> UNet2DModel:
    """The smallest of its kind: 32 channels at the last layer."""
    return UNet2DModel(
        sample_size=16,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )


model, steps, accelerator = unet(), 150, Accelerator(cpu=True)
noise_scheduler = DDPMScheduler(num_train_timesteps=1000)
context, weight = ContextPrediction(features=32, target=3), Signal(0.1, noise_scheduler.alphas_cumprod)  # + 2
captured = capture(model, "conv_out")  # + 3
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
optimizer.add_param_group({"params": context.parameters()})  # + 4
lr_scheduler = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=2, num_training_steps=2 * steps)
model, optimizer, lr_scheduler = accelerator.prepare(model, optimizer, lr_scheduler)
losses, pristine = checks.watch(context), unet()

for _ in range(steps):
    noise = torch.randn_like(images)
    timesteps = torch.randint(0, noise_scheduler.config.num_train_timesteps, (len(images),))
    noisy_images = noise_scheduler.add_noise(images, noise, timesteps)
    with accelerator.accumulate(model):
        noise_pred = model(noisy_images, timesteps, return_dict=False)[0]
        loss = F.mse_loss(noise_pred, noise)
        loss = loss + (weight(timesteps) * context(captured.input, images).loss).mean()  # + 5
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        lr_scheduler.step()
        optimizer.zero_grad()

captured.close()
checks.falls(losses)


def sample(network: UNet2DModel) -> torch.Tensor:
    """Three steps of DDIM from one noise."""
    scheduler, x = DDIMScheduler.from_config(noise_scheduler.config), torch.randn(2, 3, 16, 16, generator=seeded())
    scheduler.set_timesteps(3)
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t).sample, t, x).prev_sample
    return x


def seeded() -> torch.Generator:
    """The same numbers on every call."""
    return torch.Generator().manual_seed(0)


checks.leaves_nothing(accelerator.unwrap_model(model), pristine, sample)

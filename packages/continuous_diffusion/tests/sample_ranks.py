"""One rank of two that share the images to be sampled: `python sample_ranks.py RANK FOLDER`, for the test beside it."""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, distributed, nn

from continuous_diffusion import ForwardProcess, OneByOne, Schedule, UNet, sample

RANKS, IMAGES, SHAPE = 2, 5, (3, 8, 8)


def network() -> UNet:
    torch.manual_seed(0)
    size = {"in_channels": 3, "out_channels": 3, "channels": 32, "multipliers": (1, 2), "residual_blocks": 1}
    unet = UNet(**size, attention_at=(2,), heads=2, condition_width=8)
    for parameter in unet.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return unet.eval()


def draw(images: Sequence[int]) -> Tensor:
    states = torch.randn(IMAGES, 4, 8, generator=torch.Generator().manual_seed(0))
    return sample(
        OneByOne(network()),
        (len(images), *SHAPE),
        states[list(images)],
        process=ForwardProcess(Schedule.linear(1000)),
        steps=5,
        eta=1.0,
        guidance=2.0,
        generator=[torch.Generator().manual_seed(image) for image in images],
    )


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=RANKS)
    mine = dict(zip(range(rank, IMAGES, RANKS), draw(range(rank, IMAGES, RANKS)), strict=True))
    all_images = torch.stack([mine.get(image, torch.empty(SHAPE)) for image in range(IMAGES)])
    for image in range(IMAGES):
        distributed.broadcast(all_images[image], src=image % RANKS)
    save_file({"images": all_images}, folder / f"{rank}.safetensors")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

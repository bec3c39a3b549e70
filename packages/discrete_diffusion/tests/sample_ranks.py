"""One rank of two that share the images to be sampled: `python sample_ranks.py RANK FOLDER`, for the test beside it."""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, distributed

from discrete_diffusion import ForwardProcess, OneByOne, Schedule, TokenTransformer, sample

RANKS, IMAGES, TOKENS = 2, 5, 16


def network() -> TokenTransformer:
    torch.manual_seed(0)
    size = {"codes": 40, "grid": (4, 4), "steps": 20, "width": 32, "depth": 2, "heads": 2}
    return TokenTransformer(**size, condition_width=8, convolution=True).eval()


def draw(images: Sequence[int]) -> Tensor:
    states = torch.randn(IMAGES, 4, 8, generator=torch.Generator().manual_seed(0))
    return sample(
        OneByOne(network()),
        (len(images), TOKENS),
        states[list(images)],
        process=ForwardProcess(Schedule.released(20, 40)),
        guidance=2.0,
        truncation=0.9,
        generator=[torch.Generator().manual_seed(image) for image in images],
    )


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=RANKS)
    mine = dict(zip(range(rank, IMAGES, RANKS), draw(range(rank, IMAGES, RANKS)), strict=True))
    all_images = torch.stack([mine.get(image, torch.zeros(TOKENS, dtype=torch.int64)) for image in range(IMAGES)])
    for image in range(IMAGES):
        distributed.broadcast(all_images[image], src=image % RANKS)
    save_file({"tokens": all_images}, folder / f"{rank}.safetensors")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

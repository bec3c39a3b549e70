"""A program: codes follow a few batches, on one rank ("alone") or as rank 0 or 1 of two, and are saved."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from vq_autoencoder import VectorQuantizer


def follow(steps: torch.Tensor, revival_threshold: float) -> VectorQuantizer:
    torch.manual_seed(0)
    module = VectorQuantizer(codes=6, width=2, ema_decay=0.9, revival_threshold=revival_threshold)
    for index, latents in enumerate(steps):
        module(latents, generator=torch.Generator().manual_seed(index))
    return module


def main(rank: str, folder: Path) -> None:
    torch.set_num_threads(1)
    steps = torch.randn(3, 2, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    if rank != "alone":
        meeting = f"file://{folder}/meeting"
        dist.init_process_group("gloo", init_method=meeting, rank=int(rank), world_size=2)
        steps = steps[:, int(rank) : int(rank) + 1]
    states = {"plain": follow(steps, 0.0).state_dict(), "revived": follow(steps, 1.5).state_dict()}
    tensors = {f"{run}.{name}": value for run, state in states.items() for name, value in state.items()}
    save_file(tensors, folder / f"{rank}.safetensors")
    if rank != "alone":
        dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

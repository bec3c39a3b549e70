"""A program: as rank 0 or 1 of two, let codes follow every second example of a few batches, and save them."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from vq_autoencoder import LookupFreeQuantizer, VectorQuantizer, adaptive_weight


def follow(steps: torch.Tensor, revival_threshold: float) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    module = VectorQuantizer(codes=6, width=2, ema_decay=0.9, revival_threshold=revival_threshold)
    if revival_threshold:
        module.initialise(steps[0], generator=torch.Generator().manual_seed(9))
    for index, latents in enumerate(steps):
        module(latents, generator=torch.Generator().manual_seed(index))
    return module.state_dict()


def entropy_gradient(latents: torch.Tensor) -> torch.Tensor:
    """What two bits' entropies say to one number that scales all latents; its mean over ranks is that of one rank."""
    scale = torch.ones(1, requires_grad=True)
    LookupFreeQuantizer(bits=2).entropies(latents * scale).mean().backward()
    if dist.is_initialized():
        dist.all_reduce(scale.grad)
        scale.grad /= dist.get_world_size()
    return scale.grad


def balance(examples: slice) -> torch.Tensor:
    """The adversary's weight after a layer of two numbers, one gradient of which cancels in the joint batch."""
    layer = torch.ones(2, requires_grad=True)
    pull, push = torch.tensor([[1.0, 3.0], [1.0, -3.0], [1.0, 2.0], [1.0, -2.0]]), torch.arange(8.0).view(4, 2)
    losses = [(values[examples] @ layer).mean() for values in (pull, push)]
    return adaptive_weight(*losses, layer).view(1)


def follow_all(examples: slice) -> dict[str, torch.Tensor]:
    steps = torch.randn(3, 4, 2, 4, 4, generator=torch.Generator().manual_seed(0))[:, examples]
    entropies = {"entropies.gradient": entropy_gradient(steps[0]), "adaptive.weight": balance(examples)}
    states = {"plain": follow(steps, 0.0), "revived": follow(steps, 1.5)}
    return entropies | {f"{run}.{name}": value for run, state in states.items() for name, value in state.items()}


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    save_file(follow_all(slice(rank, None, 2)), folder / f"{rank}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

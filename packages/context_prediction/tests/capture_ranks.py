"""Two ranks train one step on what `capture` hands out, and must find the gradients of one rank with both batches.

Run as a script, `python capture_ranks.py WRAPPER FOLDER`, for the test beside it.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from context_prediction import capture

RANKS = 2


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 8)
        self.blocks = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.blocks(torch.tanh(self.first(x))))


def sharded(model, part):
    mesh = init_device_mesh("cpu", (RANKS,))
    fully_shard(getattr(model, part), mesh=mesh)
    return fully_shard(model, mesh=mesh)


def fsdp(model):
    return FullyShardedDataParallel(
        model, auto_wrap_policy=ModuleWrapPolicy({nn.Sequential}), device_id=torch.device("cpu"), use_orig_params=True
    )


WRAPPERS = {
    "DistributedDataParallel": DistributedDataParallel,
    "FullyShardedDataParallel": fsdp,
    "fully_shard": lambda model: sharded(model, "blocks"),
}


def loss(model: nn.Module, noisy: Tensor, *names: str) -> Tensor:
    """A loss on the prediction and on what is captured, over two calls of capture on one model."""
    total = torch.zeros(())
    captures = [capture(model, name) for name in names]
    total = total + model(noisy).square().mean()
    for captured in captures:
        total = total + captured.output.cos().mean() + captured.input.square().mean()
        captured.close()
    return total


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def step(rank: int, wrapper: str, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    torch.manual_seed(0)
    noisy = torch.randn(2 * RANKS, 3)
    names = ("blocks", "blocks.2", "last")
    alone, wrapped = Denoiser(), Denoiser()
    wrapped.load_state_dict(alone.state_dict())
    wrapped = WRAPPERS[wrapper](wrapped)
    optimisers = [torch.optim.SGD(model.parameters(), 1.0) for model in (alone, wrapped)]
    loss(alone, noisy, *names).backward()
    loss(wrapped, noisy[2 * rank : 2 * rank + 2], *names).backward()
    for optimiser in optimisers:
        optimiser.step()
    with torch.no_grad():
        torch.testing.assert_close(wrapped(noisy), alone(noisy))
    if wrapper != "FullyShardedDataParallel":
        bare = wrapped.module if wrapper == "DistributedDataParallel" else wrapped
        for name, parameter in bare.named_parameters():
            torch.testing.assert_close(whole(parameter), alone.get_parameter(name))
    distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    Path(sys.argv[2]).mkdir(exist_ok=True)
    torch.multiprocessing.spawn(step, args=(sys.argv[1], sys.argv[2]), nprocs=RANKS)

"""Assignment against a SciPy loop, and the whole context loss as a share of a training step of a small U-Net.

python benchmarks/matching.py [--repeats N] [--problems N] [--threads N]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from scipy.optimize import linear_sum_assignment
from timing import interleave, report
from torch import Tensor, nn

from context_prediction import ContextPrediction, linear_assignment


def scipy_loop(cost: Tensor) -> Tensor:
    return torch.stack([torch.from_numpy(linear_sum_assignment(problem)[1]) for problem in cost.numpy()])


def assignment(q: int, *, problems: int, repeats: int) -> None:
    cost = torch.rand(problems, q, q, generator=torch.Generator().manual_seed(q))
    totals = [cost.gather(2, solve(cost)[..., None]).sum((1, 2)) for solve in (linear_assignment, scipy_loop)]
    torch.testing.assert_close(*totals, rtol=1e-6, atol=0)
    times = interleave(
        {"linear_assignment": lambda: linear_assignment(cost), "scipy loop": lambda: scipy_loop(cost)}, repeats=repeats
    )
    title = f"Assignment, q = {q}, {problems:,} problems"
    report(f"matching-q{q}", title, times, baseline="scipy loop", notes="float32; equal least costs checked first")


class Block(nn.Module):
    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.GroupNorm(8, width_in), nn.SiLU(), nn.Conv2d(width_in, width, 3, padding=1))
        self.leave = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))
        self.skip = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.leave(self.enter(x))


class SmallUNet(nn.Module):
    """Two levels, two blocks each way; hands out the input of its last layer."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.Sequential(Block(width, width), Block(width, width))
        self.shrink = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.middle = nn.Sequential(Block(2 * width, 2 * width), Block(2 * width, 2 * width))
        self.grow = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.up = nn.Sequential(Block(2 * width, width), Block(width, width))
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        high = self.down(self.enter(x))
        features = self.up(torch.cat([high, self.grow(self.middle(self.shrink(high)))], 1))
        return self.last(features), features


def training_step(model: SmallUNet, context: ContextPrediction | None, x: Tensor) -> Callable[[], None]:
    modules = nn.ModuleList([model] if context is None else [model, context])
    optimiser = torch.optim.AdamW(modules.parameters(), 1e-4)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            estimate, features = model(x)
            loss = (estimate.float() - x).square().mean()
            if context is not None:
                loss = loss + 0.1 * context(features, x).loss.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def share_of_a_step(*, batch: int, width: int, channels: int, side: int, repeats: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(batch, channels, side, side)
    heads = {
        "without": None,
        "with, q = 4, latent 16": ContextPrediction(features=width, target=channels, samples=4, latent=16),
        "with, q = 4, latent 32": ContextPrediction(features=width, target=channels, samples=4, latent=32),
        "with, q = 4": ContextPrediction(features=width, target=channels, samples=4),
        "with, q = 5": ContextPrediction(features=width, target=channels, samples=5),
    }
    steps = {name: training_step(SmallUNet(channels, width), head, x) for name, head in heads.items()}
    title = f"A training step of a small U-Net, with the context loss and without, {side} x {side} grid"
    notes = f"batch {batch}, {width} feature channels, {channels} target channels, stride 3, bf16 autocast, AdamW"
    report("matching-step", title, interleave(steps, repeats=repeats), baseline="without", notes=notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--problems", type=int, default=16_384)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for q in (3, 4, 5):
        assignment(q, problems=options.problems, repeats=options.repeats)
    share_of_a_step(batch=32, width=64, channels=4, side=8, repeats=options.repeats)


if __name__ == "__main__":
    main()

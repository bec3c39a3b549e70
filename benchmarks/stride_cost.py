"""Cost of the context head against the stride: the distribution decoder and the direct one (Figure 4's message).

python benchmarks/stride_cost.py [--repeats N] [--threads N] [--batch B] [--side N] [--samples Q]

Forward and backward of head and loss, strides 1 to 5, for neighbours of 3 channels (latents) and of 64 (features). The
direct head predicts all (2 s + 1)^2 - 1 neighbours; the distribution head draws `samples` and matches them. Times are
interleaved; they are written to results/stride-cost.json and drawn in results/stride-cost.png.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import matplotlib as mpl
import torch
from timing import RESULTS, Row, interleave, report
from torch import nn

from context_prediction import ContextPrediction, DirectContextPrediction

mpl.use("Agg")

FEATURES = 64
STRIDES = range(1, 6)
CHANNELS = (3, 64)


def candidate(head: nn.Module, *, batch: int, side: int, channels: int, device: torch.device) -> Callable[[], None]:
    head = head.to(device)
    features = torch.randn(batch, FEATURES, side, side, device=device, requires_grad=True)
    target = torch.randn(batch, channels, side, side, device=device)

    def step() -> None:
        head.zero_grad()
        features.grad = None
        head(features, target).loss.mean().backward()

    return step


def plot(rows: list[Row]) -> None:
    from matplotlib import pyplot

    milliseconds = {row.name: row.median_ms for row in rows}
    figure, panels = pyplot.subplots(1, len(CHANNELS), figsize=(8, 3.2), layout="constrained")
    for channels, panel in zip(CHANNELS, panels, strict=True):
        for name, style in (("distribution", "o-"), ("direct", "s--")):
            panel.plot(STRIDES, [milliseconds[named(name, channels, s)] for s in STRIDES], style, label=f"{name} head")
        panel.set(title=f"neighbours of {channels} channels", xlabel="stride", ylabel="ms", ylim=0)
        panel.set_xticks(list(STRIDES))
        panel.grid(alpha=0.3)
    panels[0].legend(frameon=False)
    figure.savefig(RESULTS / "stride-cost.png", dpi=150)


def named(head: str, channels: int, stride: int) -> str:
    return f"{head}, c = {channels}, s = {stride}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--samples", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    candidates = {}
    for channels in CHANNELS:
        shape = {"batch": options.batch, "side": options.side, "channels": channels, "device": device}
        for stride in STRIDES:
            sizes = {"features": FEATURES, "target": channels, "stride": stride}
            distribution = ContextPrediction(**sizes, samples=options.samples)
            candidates[named("distribution", channels, stride)] = candidate(distribution, **shape)
            candidates[named("direct", channels, stride)] = candidate(DirectContextPrediction(**sizes), **shape)
    times = interleave(candidates, repeats=options.repeats, warmup=1)
    grid = f"{options.side} x {options.side} grid, batch {options.batch}, {FEATURES} feature channels"
    rows = report(
        "stride-cost",
        "Cost of the context head against the stride",
        times,
        baseline=named("distribution", CHANNELS[0], STRIDES[0]),
        notes=f"forward and backward of head and loss, {grid}, q = {options.samples}, float32",
    )
    plot(rows)


if __name__ == "__main__":
    main()

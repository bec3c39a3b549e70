"""The whole context loss as a share of a training step of LDM's denoiser for CelebA-HQ: time and peak memory.

python benchmarks/context_step.py [--repeats N] [--threads N] [--batch B] [--samples Q] [--autocast] [--tiny]

The denoiser is diffusers' `UNet2DModel` in the configuration of the released model, 274 million parameters, on 3 x 64 x
64 latents; a step is forward, backward and AdamW. The loss has stride 3 and reads 64 channels of the input of the last
layer. Times are interleaved. Each peak is that of a process of its own, which takes two steps: the largest resident set
on a CPU (VmHWM), the largest allocation on CUDA. `--tiny` shrinks the denoiser, to try the script.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import UNet2DModel
from timing import RESULTS, command, interleave, machine, report
from torch import Tensor, nn

from context_prediction import ContextPrediction, capture

CELEBA_HQ = {
    "sample_size": 64,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (224, 448, 672, 896),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "attention_head_dim": 32,
    "norm_eps": 1e-6,
    "norm_num_groups": 32,
}
PARAMETERS = 274_056_163
TINY = {**CELEBA_HQ, "block_out_channels": (64, 64, 64, 64), "layers_per_block": 1}
READ = 64


class Training:
    """A denoiser, its optimiser, and steps with and without the context loss."""

    def __init__(self, options: argparse.Namespace, *, with_context: bool) -> None:
        torch.manual_seed(0)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = UNet2DModel(**(TINY if options.tiny else CELEBA_HQ)).to(self.device)
        assert options.tiny or sum(p.numel() for p in self.model.parameters()) == PARAMETERS
        self.context = ContextPrediction(features=READ, target=3, stride=3, samples=options.samples).to(self.device)
        self.captured = capture(self.model, "conv_out")
        parts = nn.ModuleList([self.model, self.context] if with_context else [self.model])
        self.optimiser = torch.optim.AdamW(parts.parameters(), 1e-4)
        self.autocast = options.autocast
        self.latents = torch.randn(options.batch, 3, 64, 64, device=self.device)
        self.features = torch.randn(options.batch, READ, 64, 64, device=self.device, requires_grad=True)

    def step(self, *, with_context: bool) -> None:
        t = torch.randint(1, 1000, (len(self.latents),), device=self.device)
        noise = torch.randn_like(self.latents)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            loss = (self.model(self.latents + noise, t).sample - noise).square().mean()
            if with_context:
                loss = loss + 0.1 * self.loss(self.captured.input[:, :READ])
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()

    def loss(self, features: Tensor) -> Tensor:
        return self.context(features, self.latents).loss.mean()

    def loss_alone(self) -> None:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            loss = self.loss(self.features)
        loss.backward()


def peak(options: argparse.Namespace) -> float:
    """Largest memory, in MB, of two steps of this process."""
    training = Training(options, with_context=options.peak == "with")
    for _ in range(2):
        training.step(with_context=options.peak == "with")
    if training.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 2**10


def peaks(notes: str) -> None:
    """Peaks of fresh processes, one after the other, printed and written."""
    script = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:]]
    rows = []
    for which in ("without", "with"):
        done = subprocess.run([*script, "--peak", which], capture_output=True, text=True, check=True)
        megabytes = float(done.stdout.splitlines()[-1])
        ratio = megabytes / rows[0]["peak_mb"] if rows else 1.0
        rows.append({"name": f"step {which}", "peak_mb": megabytes, "ratio": ratio})
        print(f"peak of a step {which} the context loss: {megabytes:,.0f} MB, {ratio:.3f}", flush=True)
    entry = {"title": "Peak memory of a training step", "notes": notes, "command": command(), "machine": machine()}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({**entry, "rows": rows}, indent=2)
    (RESULTS / "context-step-memory.json").write_text(f"{text}\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--samples", type=int, default=9)
    parser.add_argument("--autocast", action="store_true", help="bf16 autocast")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--peak", choices=("with", "without"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        print(peak(options))
        return
    size = "a tiny denoiser" if options.tiny else "274 M parameters"
    precision = "bf16 autocast" if options.autocast else "float32"
    notes = (
        f"{size}, batch {options.batch}, 64 x 64 grid, {precision}; loss: stride 3, q = {options.samples}, 64 feature"
        " channels, 3 target channels, forward and backward"
    )
    peaks(notes)
    training = Training(options, with_context=True)
    candidates: dict[str, Callable[[], None]] = {
        "step without": lambda: training.step(with_context=False),
        "step with": lambda: training.step(with_context=True),
        "context loss alone": training.loss_alone,
    }
    times = interleave(candidates, repeats=options.repeats, warmup=1)
    title = "A training step of LDM's denoiser and the context loss"
    report("context-step", title, times, baseline="step without", notes=notes)


if __name__ == "__main__":
    main()

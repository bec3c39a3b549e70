"""LDM's U-Net forward and in training, against diffusers with the same weights; on a GPU with compilation and FLOP/s.

Times are taken in turn in one process; peaks of memory, beside what the weights take, each in a process of its own.
What a step of DDIM takes outside the network is timed around an answer that is ready, and set beside the network.

python benchmarks/unet.py [--side N] [--batches 1 4] [--repeats N] [--threads N] [--divide N] [--only-steps]
python benchmarks/unet.py --cuda [--batches 16 64]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from nearest_code import peak_megabytes
from timing import interleave, report
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from continuous_diffusion import (
    PRESETS,
    ForwardProcess,
    Guided,
    Prediction,
    Schedule,
    UNet,
    read_diffusers,
    sample,
    write_diffusers,
)

BASELINE, PRESET = "diffusers", "celebahq"
STEPS = 50


@dataclass(frozen=True)
class Setting:
    """Where and how both are run: the device, bfloat16 under autocast, compiled or not."""

    device: str = "cpu"
    half: bool = False
    compiled: bool = False

    def place(self, network: nn.Module, layout: torch.memory_format) -> nn.Module:
        placed = network.to(self.device, memory_format=layout)
        if self.compiled:
            placed.compile()
        return placed

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.half)


@dataclass(frozen=True)
class Called:
    """A network, and how it is asked."""

    network: nn.Module
    answer: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.answer(x, t)


def ours(folder: Path, setting: Setting, layout: torch.memory_format = torch.contiguous_format) -> Called:
    unet = setting.place(read_diffusers(folder), layout)
    return Called(unet, lambda x, t: unet(x.contiguous(memory_format=layout), t).value)


def ours_channels_last(folder: Path, setting: Setting) -> Called:
    return ours(folder, setting, torch.channels_last)


def theirs(folder: Path, setting: Setting, layout: torch.memory_format = torch.contiguous_format) -> Called:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import diffusers

        unet = setting.place(diffusers.UNet2DModel.from_pretrained(folder).eval(), layout)
    return Called(unet, lambda x, t: unet(x.contiguous(memory_format=layout), t - 1).sample)


def theirs_channels_last(folder: Path, setting: Setting) -> Called:
    return theirs(folder, setting, torch.channels_last)


MAKERS: Mapping[str, Callable[[Path, Setting], Called]] = {
    "ours": ours,
    "ours, channels last": ours_channels_last,
    BASELINE: theirs,
    "diffusers, channels last": theirs_channels_last,
}


def forward(called: Called, x: Tensor, setting: Setting) -> Tensor:
    t = torch.full((len(x),), 500, device=x.device)
    with torch.inference_mode(), setting.autocast():
        return called(x, t)


def training(called: Called, x: Tensor, setting: Setting) -> None:
    """Loss and gradients, without the optimiser, which is the same for all."""
    t = torch.full((len(x),), 500, device=x.device)
    called.network.zero_grad(set_to_none=True)
    with setting.autocast():
        loss = (called(x, t).float() - x).square().mean()
    loss.backward()


WORK = {"forward": forward, "training": training}


def states(batch: int, channels: int, side: int, device: str) -> Tensor:
    return torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(0)).to(device)


def peak(maker: str, folder: Path, batch: int, side: int, what: str, threads: int) -> float:
    """Peak megabytes that doing `what` adds to a process that holds the weights."""
    program = f"import unet; print(unet.alone({maker!r}, {str(folder)!r}, {batch}, {side}, {what!r}, {threads}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=sys.path[0])
    return float(done.stdout.split()[-1])


def alone(maker: str, folder: str, batch: int, side: int, what: str, threads: int) -> float:
    torch.set_num_threads(threads)
    called, setting = MAKERS[maker](Path(folder), Setting()), Setting()
    x = states(batch, _channels(called.network), side, "cpu")
    peak_megabytes(afresh=True)
    held = peak_megabytes()
    WORK[what](called, x, setting)
    return peak_megabytes() - held


def _channels(network: nn.Module) -> int:
    return int(next(p for p in network.parameters() if p.ndim == 4).shape[1])


def peak_on_gpu(called: Called, x: Tensor, what: str, setting: Setting) -> float:
    called.network.zero_grad(set_to_none=True)
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    WORK[what](called, x, setting)
    return (torch.cuda.max_memory_allocated() - held) / 2**20


def operations(called: Called, x: Tensor, what: str, setting: Setting) -> int:
    """Floating-point operations of one call, counted by torch without compilation."""
    with FlopCounterMode(display=False) as counter:
        WORK[what](called, x, setting)
    return int(counter.get_total_flops())


def measured_peak(seconds: int = 2, size: int = 8192) -> float:
    """FLOP/s of the best of a row of bfloat16 matrix products on this GPU."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    times = interleave({"product": lambda: a @ b}, repeats=50 * seconds)["product"]
    return 2 * size**3 / min(times)


def compare(name: str, folder: Path, batch: int, setting: Setting, options: argparse.Namespace) -> None:
    called = {maker: make(folder, setting) for maker, make in MAKERS.items()}
    x = states(batch, _channels(called["ours"].network), options.side, setting.device)
    if not setting.half:
        torch.testing.assert_close(
            forward(called["ours"], x, setting), forward(called[BASELINE], x, setting), atol=2e-4, rtol=1e-3
        )
    for what, work in WORK.items():
        calls = {maker: (lambda one=one, work=work: work(one, x, setting)) for maker, one in called.items()}
        times = interleave(calls, repeats=options.repeats, warmup=3 if setting.compiled else 1)
        peaks = {
            maker: peak_on_gpu(one, x, what, setting)
            if setting.device == "cuda"
            else peak(maker, folder, batch, options.side, what, options.threads)
            for maker, one in called.items()
        }
        notes = (
            _precision(setting)
            + "; peak memory beside the weights: "
            + ", ".join(f"{m} {mb:,.0f} MB" for m, mb in peaks.items())
        )
        if setting.device == "cuda":
            notes += _rates(folder, x, what, times)
        for one in called.values():
            one.network.zero_grad(set_to_none=True)
        where = f"-{setting.device}" + ("-compiled" if setting.compiled else "") if setting.device == "cuda" else ""
        title = f"{name}: {what}, batch {batch}, {options.side} x {options.side} latents"
        report(f"unet-{name}-{what}-{batch}{where}", title, times, baseline=BASELINE, notes=notes)


def _precision(setting: Setting) -> str:
    kind = "bfloat16 under autocast" if setting.half else "float32, equal results checked first"
    return f"{kind}, {'compiled' if setting.compiled else 'not compiled'}, same weights"


def _rates(folder: Path, x: Tensor, what: str, times: Mapping[str, list[float]]) -> str:
    plain = Setting("cuda", half=True)
    work, best = operations(ours(folder, plain), x, what, plain), measured_peak()
    rates = {maker: work / sorted(seconds)[len(seconds) // 2] for maker, seconds in times.items()}
    return f"; {work / 1e12:.2f} TFLOP, of a measured {best / 1e12:.0f} TFLOP/s: " + ", ".join(
        f"{maker} {rate / 1e12:.1f} TFLOP/s ({rate / best:.0%})" for maker, rate in rates.items()
    )


def outside(name: str, folder: Path, guided: bool, options: argparse.Namespace) -> None:
    """A step of DDIM for one image, without and with guidance, whose denoiser has its answer ready; and the network."""
    called, setting, process = ours(folder, Setting()), Setting(), ForwardProcess(Schedule.linear(1000))
    x = states(1, _channels(called.network), options.side, "cpu")
    both, null = (torch.cat([x, x]) if guided else x), torch.zeros(1, 1, 1)
    ready = Prediction(value=forward(called, both, setting), features=both)

    def answer(x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        return ready

    denoiser = Guided(answer, 3.0, null=null) if guided else answer

    def walk() -> Tensor:
        return sample(denoiser, tuple(x.shape), null if guided else None, process=process, steps=STEPS, start=x)

    rows = {"network": lambda: forward(called, both, setting), "outside": walk}
    times = interleave(rows, repeats=options.repeats, warmup=1)
    times["outside"] = [seconds / STEPS for seconds in times["outside"]]
    title = f"{name}: a {'guided ' if guided else ''}step of DDIM for one image, outside the network"
    notes = (
        f"float32; the mean of {STEPS} steps; the network is asked for {len(both)} of {options.side} x {options.side}"
    )
    report(f"unet-{name}-step-{'guided' if guided else 'plain'}", title, times, baseline="network", notes=notes)


def network(divide: int) -> UNet:
    arguments = PRESETS[PRESET].arguments
    built = UNet(**{**arguments, "channels": arguments["channels"] // divide})
    for parameter in built.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return built


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--divide", type=int, default=1, help="width over this number, for a quick look")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cuda", action="store_true", help="bfloat16 on a GPU, eager and compiled, with FLOP/s")
    parser.add_argument("--only-steps", action="store_true", help="only what a step takes outside the network")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    settings = [Setting("cuda", half=True, compiled=compiled) for compiled in (False, True)]
    name = PRESET + (f"-over-{options.divide}" if options.divide > 1 else "")
    with tempfile.TemporaryDirectory() as root:
        write_diffusers(network(options.divide), root, grid=(options.side, options.side))
        for guided in (False, True) if not options.cuda else ():
            outside(name, Path(root), guided, options)
        for setting in settings if options.cuda else [Setting()]:
            for batch in options.batches if not options.only_steps else ():
                compare(name, Path(root), batch, setting, options)


if __name__ == "__main__":
    main()

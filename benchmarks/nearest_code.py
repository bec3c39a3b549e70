"""The nearest of many codes: ours in blocks, against the formula of the released VQGAN with its whole matrix.

The matrix of the formula would take several times 4 GB at the default size, so it is given the latents in pieces.

python benchmarks/nearest_code.py [--latents N] [--codes N] [--piece N] [--repeats N] [--threads N]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from timing import interleave, report
from torch import Tensor

from vq_autoencoder import nearest_code

WIDTHS = (4, 8, 256)


def peak_megabytes(*, afresh: bool = False) -> float:
    """This process's peak of resident memory, as Linux counts it; `afresh` lets the count begin anew."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    if afresh:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def formula(latents: Tensor, codes: Tensor, piece: int) -> Tensor:
    """`argmin |z|^2 + |e|^2 - 2 z e`, written as in the released code, on `piece` latents at a time."""
    found = []
    for part in latents.split(piece):
        distances = (
            part.square().sum(1, keepdim=True) + codes.square().sum(1) - 2 * torch.einsum("bd,kd->bk", part, codes)
        )
        found.append(distances.argmin(1))
    return torch.cat(found)


def inputs(n: int, k: int, d: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(d)
    return torch.randn(n, d, generator=generator), torch.randn(k, d, generator=generator)


def beside_inputs(n: int, k: int, d: int) -> float:
    """What the search adds to a fresh process's peak memory, beside its inputs and result."""
    program = f"import nearest_code as n; print(n.added({n}, {k}, {d}))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=sys.path[0] or "."
    )
    return float(done.stdout)


def added(n: int, k: int, d: int) -> float:
    torch.set_num_threads(1)
    latents, codes = inputs(n, k, d)
    nearest_code(latents[:64], codes)
    peak_megabytes(afresh=True)
    before = peak_megabytes()
    nearest_code(latents, codes)
    return peak_megabytes() - before


def compare(n: int, k: int, d: int, *, piece: int, repeats: int) -> None:
    latents, codes = inputs(n, k, d)
    agree = (nearest_code(latents[:4096], codes) == formula(latents[:4096], codes, piece)).double().mean().item()
    assert agree > 0.999, f"the two agree on {agree:.2%} only"
    times = interleave(
        {"nearest_code": lambda: nearest_code(latents, codes), "formula": lambda: formula(latents, codes, piece)},
        repeats=repeats,
        warmup=1,
    )
    notes = (
        f"float32, width {d}; the formula on {piece:,} latents at a time; nearest_code adds "
        f"{beside_inputs(n, k, d):.0f} MB to the peak, the whole matrix would take {n * k * 4 / 2**20:,.0f} MB; "
        f"{agree:.2%} of the codes agree (rounding decides the rest)"
    )
    report(f"nearest-code-d{d}", f"Nearest of {k:,} codes for {n:,} latents", times, baseline="formula", notes=notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", type=int, default=65_536)
    parser.add_argument("--codes", type=int, default=16_384)
    parser.add_argument("--piece", type=int, default=8_192)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for width in WIDTHS:
        compare(options.latents, options.codes, width, piece=options.piece, repeats=options.repeats)


if __name__ == "__main__":
    main()

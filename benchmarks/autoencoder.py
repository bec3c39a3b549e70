"""Encode and decode with the networks of kl-f8 and vq-f4 at 256 pixels, against diffusers with the same weights.

Times are taken in turn in one process; peaks of memory each in a process of its own.

python benchmarks/autoencoder.py [--side N] [--batches [1 8]] [--repeats N] [--threads N] [--large N]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from nearest_code import peak_megabytes
from timing import RESULTS, interleave, machine, report
from torch import Tensor

from vq_autoencoder import PRESETS, KLAutoencoder, Tiling, decode_tiled, read_diffusers, write_diffusers

PEERS = {"kl-f8": "AutoencoderKL", "vq-f4": "VQModel"}
Call = Callable[[], Tensor]


def ours(name: str, folder: Path, images: Tensor) -> dict[str, Call]:
    model = read_diffusers(folder).eval()
    if isinstance(model, KLAutoencoder):
        latents = model.encode(images, sample=False).values
        return {"encode": lambda: model.posterior(images).mean, "decode": lambda: model.decode(latents)}
    indices = model.encode(images).indices
    return {"encode": lambda: model.latents(images), "decode": lambda: model.decode(indices)}


def theirs(name: str, folder: Path, images: Tensor) -> dict[str, Call]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import diffusers
    model = getattr(diffusers, PEERS[name]).from_pretrained(folder).eval()
    if name.startswith("kl"):
        latents = model.encode(images).latent_dist.mean
        return {"encode": lambda: model.encode(images).latent_dist.mean, "decode": lambda: model.decode(latents).sample}
    quantised = model.quantize(model.encode(images).latents)[0]
    return {
        "encode": lambda: model.encode(images).latents,
        "decode": lambda: model.decode(quantised, force_not_quantize=True).sample,
    }


MAKERS = {"ours": ours, "diffusers": theirs}


def pictures(batch: int, side: int) -> Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def peak(maker: str, name: str, folder: Path, batch: int, side: int, what: str) -> float:
    """Peak megabytes of a process that loads the weights and does `what` once."""
    return _printed(
        f"import autoencoder as a; print(a.alone({maker!r}, {name!r}, {str(folder)!r}, {batch}, {side}, {what!r}))"
    )


@torch.inference_mode()
def alone(maker: str, name: str, folder: str, batch: int, side: int, what: str) -> float:
    call = MAKERS[maker](name, Path(folder), pictures(batch, side))[what]
    peak_megabytes(afresh=True)
    call()
    return peak_megabytes()


def large_decode(folder: Path, side: int, threads: int) -> float:
    """Peak megabytes of decoding one image of `side` pixels by tiles."""
    program = f"import autoencoder as a; print(a.tiled({str(folder)!r}, {side}, {threads}))"
    return _printed(program)


def _printed(program: str) -> float:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=sys.path[0])
    return float(done.stdout.split()[-1])


@torch.inference_mode()
def tiled(folder: str, side: int, threads: int) -> float:
    torch.set_num_threads(threads)
    model = read_diffusers(folder).eval()
    peak_megabytes(afresh=True)
    decode_tiled(model, torch.randn(1, 4, side // 8, side // 8), tiling=Tiling(tile=64, overlap=16))
    return peak_megabytes()


@torch.inference_mode()
def compare(name: str, folder: Path, batch: int, options: argparse.Namespace) -> None:
    images = pictures(batch, options.side)
    calls = {maker: make(name, folder, images) for maker, make in MAKERS.items()}
    for what in ("encode", "decode"):
        apart = float((calls["ours"][what]() - calls["diffusers"][what]()).abs().max())
        if not apart < 1e-3:
            raise ArithmeticError(f"{name}: {what} differs from diffusers' by {apart:.1e} at most, more than 1e-3")
        peaks = {m: peak(m, name, folder, batch, options.side, what) for m in MAKERS}
        times = interleave({m: calls[m][what] for m in MAKERS}, repeats=options.repeats, warmup=0)
        title = f"{name}: {what} {batch} of {options.side} pixels"
        notes = (
            f"float32, same weights, results at most {apart:.1e} apart (which warms up); peak of a process: "
            + ", ".join(f"{maker} {megabytes:,.0f} MB" for maker, megabytes in peaks.items())
        )
        report(f"autoencoder-{name}-{what}-{batch}", title, times, baseline="diffusers", notes=notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--presets", nargs="+", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--large", type=int, default=2048, help="side of the image decoded by tiles; 0: none")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as root:
        for name in options.presets:
            torch.manual_seed(0)
            folder = Path(root) / name
            write_diffusers(PRESETS[name].build(), folder)
            for batch in options.batches:
                compare(name, folder, batch, options)
        if options.large and "kl-f8" in options.presets:
            megabytes = large_decode(Path(root) / "kl-f8", options.large, options.threads)
            print(
                f"kl-f8 decodes {options.large} x {options.large} pixels by tiles of 512 in {megabytes:,.0f} MB at most"
            )
            entry = {
                "side": options.large,
                "tile": 512,
                "overlap": 128,
                "peak_megabytes": megabytes,
                "machine": machine(),
            }
            (RESULTS / "autoencoder-large.json").write_text(json.dumps(entry, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

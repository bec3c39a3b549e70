"""Precision and recall at N = 10,000 and d = 2048 against their definition in scikit-learn, as dgm-eval computes it.

    python benchmarks/precision_recall.py [--repeats N] [--rows N] [--width D] [--neighbours K]

The peer holds three whole matrices of `sklearn.metrics.pairwise_distances` and takes radii by `numpy.argpartition`.
Both get float32 features, as stores hold them, and must give the same shares. The peak of the memory that each takes
beyond the features is measured in a process of its own. Writes `results/precision_recall.json`.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import pairwise_distances
from timing import interleave, report

from diffusion_evaluation import precision_recall


def drawn(rows: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two sets of float32 features in 64 effective dimensions, a sixth of whose points lie off the other's manifold."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.randn(64, width, generator=generator)
    real = torch.randn(rows, 64, generator=generator) @ axes
    fake = (0.95 * torch.randn(rows, 64, generator=generator) + 0.1) @ axes
    return real, fake


def kth_distance(distances: np.ndarray, k: int) -> np.ndarray:
    """The k-th smallest value of each row, by partition of indices."""
    indices = np.argpartition(distances, k, axis=-1)[..., :k]
    return np.take_along_axis(distances, indices, axis=-1).max(axis=-1)


def by_definition(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[float, float]:
    """Precision and recall from whole matrices of distances; a point is its own nearest neighbour, so k + 1."""
    of_real = kth_distance(pairwise_distances(real, metric="euclidean", n_jobs=8), k + 1)
    of_fake = kth_distance(pairwise_distances(fake, metric="euclidean", n_jobs=8), k + 1)
    distances = pairwise_distances(real, fake, metric="euclidean", n_jobs=8)
    precision = (distances < of_real[:, None]).any(axis=0).mean()
    recall = (distances < of_fake[None]).any(axis=1).mean()
    return float(precision), float(recall)


def peak_mebibytes(candidate: str, options: argparse.Namespace) -> float:
    """How far the resident memory of a fresh process rises above what it has with both sets of features in it."""
    command = [sys.executable, __file__, "--alone", candidate]
    for name in ("rows", "width", "neighbours"):
        command += [f"--{name}", str(getattr(options, name))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def resident_mebibytes(which: str) -> float:
    """This process's resident memory, now (`VmRSS`) or at its peak (`VmHWM`), as Linux counts it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1024


def main() -> None:
    """Check that both give one value, time them in turn, report ratio and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--neighbours", type=int, default=3)
    parser.add_argument("--alone", choices=("ours", "peer"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    real, fake = drawn(options.rows, options.width)

    def ours() -> tuple[float, float]:
        scores = precision_recall(real, fake, neighbours=options.neighbours)
        return scores.precision.value, scores.recall.value

    def peer() -> tuple[float, float]:
        return by_definition(real.numpy(), fake.numpy(), options.neighbours)

    if options.alone:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        before = resident_mebibytes("VmRSS")
        {"ours": ours, "peer": peer}[options.alone]()
        print(resident_mebibytes("VmHWM") - before)
        return
    values, expected = ours(), peer()
    if not np.allclose(values, expected, rtol=0, atol=2 / options.rows):
        raise SystemExit(f"the values differ, {values} and {expected}: there is nothing to compare")
    memory = {name: peak_mebibytes(name, options) for name in ("ours", "peer")}
    times = interleave({"diffusion_evaluation": ours, "scikit-learn": peer}, repeats=options.repeats, warmup=0)
    report(
        "precision_recall",
        f"Precision and recall of {options.rows} against {options.rows} features of width {options.width}",
        times,
        baseline="scikit-learn",
        notes=f"float32 features, k = {options.neighbours}, precision {values[0]:.3f}, recall {values[1]:.3f}; memory "
        f"over the features: diffusion_evaluation {memory['ours']:.0f} MiB, scikit-learn {memory['peer']:.0f} MiB.",
    )


if __name__ == "__main__":
    main()

"""Streaming mean and covariance at d = 2048 against one large float64 `X.T @ X` over the same rows.

    python benchmarks/covariance.py [--repeats N] [--rows N] [--width D] [--batch B]

The features are float32, as extractors give them. The streams merge centred batches in float64; the peer turns all
rows to float64 at once and multiplies, which is neither centred nor bounded in memory, and so the least that any
float64 covariance costs. Writes `results/covariance.json`.
"""

import argparse

import torch
from timing import interleave, report

from diffusion_evaluation import Accumulator


def main() -> None:
    """Check that both give one covariance, time them in turn, report the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=500)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(options.rows, options.width, generator=generator).relu()

    def streamed() -> torch.Tensor:
        accumulator = Accumulator()
        for batch in features.split(options.batch):
            accumulator.update(batch)
        return accumulator.statistics.covariance

    def at_once() -> torch.Tensor:
        rows = features.double()
        return rows.T @ rows

    mean = features.double().mean(dim=0)
    expected = (at_once() - options.rows * torch.outer(mean, mean)) / (options.rows - 1)
    torch.testing.assert_close(streamed(), expected, rtol=1e-9, atol=1e-11)
    times = interleave({"diffusion_evaluation": streamed, "X.T @ X": at_once}, repeats=options.repeats)
    report(
        "covariance",
        f"Mean and covariance of {options.rows} features of width {options.width}",
        times,
        baseline="X.T @ X",
        notes=f"float32 features, float64 sums, batches of {options.batch}.",
    )


if __name__ == "__main__":
    main()

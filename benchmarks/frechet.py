"""The Frechet distance at d = 2048 against `scipy.linalg.sqrtm`, as published metric code calls it.

    python benchmarks/frechet.py [--repeats N] [--width D] [--decades E]

Both candidates get the same means and covariances. `--decades` is the range of the features' deviations in powers of
ten: 0.5 is a well conditioned covariance (roots from a Gram matrix), 4 one so stretched that singular values are
needed. Writes `results/frechet.json`, or `results/frechet-<decades>-decades.json` for another range than 0.5.
"""

import argparse
import inspect
import warnings

import torch
from scipy import linalg
from timing import interleave, report

from diffusion_evaluation import Statistics, gaussian_frechet_distance

USUAL_DECADES = 0.5


def stretched(count: int, width: int, decades: float, seed: int) -> Statistics:
    """Statistics of Gaussian features whose deviations fall by `decades` powers of ten along random axes."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, width, generator=generator, dtype=torch.float64)
    axes = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q
    return Statistics.of((rows * torch.logspace(0, -decades, width, dtype=torch.float64) + 0.01 * seed) @ axes)


def by_matrix_root(real: Statistics, fake: Statistics) -> float:
    """The distance through the root of the product of covariances, by the call that pytorch-fid and clean-fid make."""
    product = real.covariance.numpy().dot(fake.covariance.numpy())
    if "disp" in inspect.signature(linalg.sqrtm).parameters:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            root, _ = linalg.sqrtm(product, disp=False)
    else:
        root = linalg.sqrtm(product)
    shift = (real.mean - fake.mean).square().sum().item()
    return shift + real.covariance.trace().item() + fake.covariance.trace().item() - 2 * root.real.trace()


def main() -> None:
    """Check that both give one value, time them in turn, report the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--decades", type=float, default=USUAL_DECADES)
    options = parser.parse_args()
    real, fake = (stretched(3 * options.width, options.width, options.decades, seed) for seed in (0, 1))

    def ours() -> float:
        return gaussian_frechet_distance(real.mean, real.covariance, fake.mean, fake.covariance)

    def peer() -> float:
        return by_matrix_root(real, fake)

    difference = abs(ours() - peer()) / peer()
    if difference > 1e-6:
        raise SystemExit(f"the two values differ by {difference:.1e} relative: there is nothing to compare")
    times = interleave({"diffusion_evaluation": ours, "scipy.linalg.sqrtm": peer}, repeats=options.repeats, warmup=0)
    name = "frechet" if options.decades == USUAL_DECADES else f"frechet-{options.decades:g}-decades"
    report(
        name,
        f"Frechet distance between covariances of width {options.width}",
        times,
        baseline="scipy.linalg.sqrtm",
        notes=f"float64, deviations over {options.decades:g} decades; values differ by {difference:.1e} relative.",
    )


if __name__ == "__main__":
    main()

"""One reverse step of VQ-Diffusion: our affine posterior and its draw, against log space and against dense matrices.

python benchmarks/posterior.py [--repeats N] [--batch B] [--tokens N] [--codes K]

All three take the same log-probabilities of the clean token and give the same law, which is checked first; each draws
with the same Gumbel-max. `log space` is the formulation of the released code: logsumexp and logaddexp over all states,
channels before tokens. `dense` is Bayes' rule with (K + 1) x (K + 1) matrices, made beforehand.
"""

import argparse

import torch
from timing import interleave, report
from torch import Tensor

from discrete_diffusion import ForwardProcess, Schedule
from discrete_diffusion.drawing import gumbel_max

T, STEP = 100, 50


def log_space(schedule: Schedule, log_x0: Tensor, x_t: Tensor, t: int) -> Tensor:
    """The posterior by logaddexp over (b, k + 1, n), every state at every token; returned as (b, n, k + 1)."""
    codes = schedule.codes
    alpha, beta, gamma = (p.float().log() for p in schedule.transition(torch.tensor(t)))
    keep, replace, mask = (p.float().log() for p in (schedule.keep, schedule.replace, schedule.mask))
    masked = (x_t == codes)[:, None]
    one_hot = torch.nn.functional.one_hot(x_t, codes + 1).transpose(1, 2).float().clamp_min(1e-30).log()
    of_x0 = torch.where(masked, mask[t], torch.logaddexp(one_hot[:, :-1] + keep[t], replace[t]))
    of_code = torch.where(masked, gamma, torch.logaddexp(one_hot[:, :-1] + alpha, beta))
    of_mask = torch.where(masked, 0.0, -70.0)
    ratio = log_x0.transpose(1, 2) - of_x0
    total = ratio.logsumexp(1, keepdim=True)
    ratio = ratio - total
    code = torch.logaddexp(ratio + keep[t - 1], replace[t - 1]) + of_code
    stays_masked = mask[t - 1] + of_mask
    return (torch.cat([code, stays_masked], 1) + total).clamp(-70, 0).transpose(1, 2)


class Dense:
    """The posterior by products with the dense matrices of one time."""

    def __init__(self, schedule: Schedule, t: int) -> None:
        k = schedule.codes
        self.step = _matrix(k, *schedule.transition(torch.tensor(t)))
        self.before, self.whole = (
            _matrix(k, schedule.keep[u], schedule.replace[u], schedule.mask[u])[:, :k] for u in (t - 1, t)
        )

    def __call__(self, log_x0: Tensor, x_t: Tensor) -> Tensor:
        weights = log_x0.exp() / self.whole[x_t]
        return ((weights @ self.before.T) * self.step[x_t]).clamp_min(1e-30).log()


def _matrix(codes: int, alpha: Tensor, beta: Tensor, gamma: Tensor) -> Tensor:
    matrix = torch.zeros(codes + 1, codes + 1, dtype=torch.float64)
    matrix[:codes, :codes] = beta
    matrix.diagonal()[:codes] += alpha
    matrix[codes, :codes] = gamma
    matrix[codes, codes] = 1
    return matrix.float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--codes", type=int, default=1024)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    schedule = Schedule.released(T, options.codes)
    process, dense = ForwardProcess(schedule), Dense(schedule, STEP)
    shape = (options.batch, options.tokens)
    log_x0 = torch.randn(*shape, options.codes, generator=generator).log_softmax(-1)
    t = torch.full(shape[:1], STEP)
    x_t = process.sample(torch.randint(options.codes, shape, generator=generator), t, generator=generator)
    candidates = {
        "ours, O(K)": lambda: process.log_posterior(log_x0, x_t, t),
        "log space, O(K)": lambda: log_space(schedule, log_x0, x_t, STEP),
        "dense, O(K^2)": lambda: dense(log_x0, x_t),
    }
    expected = candidates["ours, O(K)"]().exp()
    for posterior in candidates.values():
        torch.testing.assert_close(posterior().exp(), expected, atol=2e-5, rtol=0)
    draws = {f"{name}, and draw": lambda f=f: gumbel_max(f(), generator=generator) for name, f in candidates.items()}
    times = interleave({**candidates, **draws}, repeats=options.repeats)
    size = f"{options.batch} x {options.tokens} tokens, K = {options.codes}"
    report(
        "posterior",
        "One reverse step of mask and replace",
        times,
        baseline="log space, O(K)",
        notes=f"{size}, released schedule, t = {STEP} of {T}, float32",
    )


if __name__ == "__main__":
    main()

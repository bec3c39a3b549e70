"""One reverse step of VQ-Diffusion: our affine posterior and its draws, against log space and against dense matrices.

python benchmarks/posterior.py [--repeats N] [--batch B] [--tokens N] [--codes K] [--step T] [--without-dense]

All take the same log-probabilities of the clean token and give the same law, which is checked first. `log space` is the
formulation of the released code: logsumexp and logaddexp over all states, channels before tokens, and a Gumbel-max draw
in float32 with two logarithms a state. `dense` is Bayes' rule with (K + 1) x (K + 1) matrices, made beforehand. Ours
draws by Gumbel-max with float64 noise, or directly (the default): first whether a token changes, then, only where it
does, to what.

Expected of one step at K = 2887, n = 1024 (3.0 M states), from the passes over memory: log space makes about 14, five
of them with transcendental functions, and its draw 6; our posterior 4 and its draw 4, so about 2.5 times less. A direct
draw at t = 50 reads the codes of the one token in a hundred that changes: far more than 20 times less. At t = 1, where
one token in a hundred is masked and all of those change, it is the same; in a single stride from T to 0 every token
changes, and it makes 5 passes in float64: about 3 times less than log space.
"""

import argparse

import torch
from timing import interleave, report
from torch import Tensor

from discrete_diffusion import ForwardProcess, Schedule
from discrete_diffusion.drawing import gumbel_max

T = 100


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


def log_space_draw(log_p: Tensor, generator: torch.Generator) -> Tensor:
    """Gumbel-max of the released code, over the states of (b, k + 1, n)."""
    log_p = log_p.transpose(1, 2)
    u = torch.rand(log_p.shape, generator=generator)
    return (-torch.log(-torch.log(u + 1e-30) + 1e-30) + log_p).argmax(1)


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
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--codes", type=int, default=2887)
    parser.add_argument("--step", type=int, default=50, help="t, the time of the step, of 100")
    parser.add_argument("--without-dense", action="store_true")
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    schedule = Schedule.released(T, options.codes)
    process, step = ForwardProcess(schedule), options.step
    shape = (options.batch, options.tokens)
    log_x0 = torch.randn(*shape, options.codes, generator=generator).log_softmax(-1)
    t = torch.full(shape[:1], step)
    x_t = process.sample(torch.randint(options.codes, shape, generator=generator), t, generator=generator)
    posteriors = {
        "log space": lambda: log_space(schedule, log_x0, x_t, step),
        "ours": lambda: process.log_posterior(log_x0, x_t, t),
    }
    if not options.without_dense:
        dense = Dense(schedule, step)
        posteriors["dense matrices"] = lambda: dense(log_x0, x_t)
    expected = posteriors["ours"]().exp()
    for posterior in posteriors.values():
        torch.testing.assert_close(posterior().exp(), expected, atol=2e-5, rtol=0)
    candidates = {
        "log space, and its draw": lambda: log_space_draw(posteriors["log space"](), generator),
        "ours, and a Gumbel draw": lambda: gumbel_max(posteriors["ours"](), generator=generator),
        "ours, drawn directly": lambda: process.sample_posterior(log_x0, x_t, t, generator=generator),
        **{f"{name}, no draw": posterior for name, posterior in posteriors.items()},
    }
    report(
        "posterior" if step == 50 else f"posterior-t{step}",
        "One reverse step of mask and replace",
        interleave(candidates, repeats=options.repeats),
        baseline="log space, and its draw",
        notes=f"{shape[0]} x {shape[1]} tokens, K = {options.codes}, released schedule, t = {step} of {T}, float32",
    )


if __name__ == "__main__":
    main()

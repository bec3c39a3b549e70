r"""What a denoiser that learned its variance says: $\log \sigma^2 = f \log \beta + (1 - f) \log \tilde\beta$.

$f = (v + 1) / 2$ for its answer $v$; $\beta$ is the variance of the step from s to t, and $\tilde\beta$ that of
$q(x_s \mid x_t, x_0)$.
"""

import math

import torch
from torch import Tensor

from continuous_diffusion._types import Images, PerExample, Times
from continuous_diffusion.forward_process import ForwardProcess


def log_variance(process: ForwardProcess, answer: Images, t: Times, s: Times) -> Tensor:
    r"""$\log \sigma^2$ of the state at s, for the answer $v$ at t; where s is 0, $\tilde\beta$ is that of t = 2.

    Source: Improved DDPM Eq. 15
    """
    one = torch.ones_like(s)
    first = s == 0
    upper = process.transition(answer, s, t).variance.log()
    lower = process.posterior(answer, answer, torch.where(first, t + one, t), torch.where(first, one, s)).variance.log()
    share = (answer + 1) / 2
    return share * upper + (1 - share) * lower


def bound_of_variance(
    process: ForwardProcess, clean: Images, x_t: Images, t: Times, estimate: Images, answer: Images
) -> PerExample:
    r"""The term of the variational bound at t, in nats per unit, (b,), whose gradient reaches the variance alone.

    For t > 1 the divergence of $q(x_{t-1} \mid x_t, x_0)$ from the model's step, for t = 1 minus the log density of
    the clean image.

    Raises ValueError for a process of one step.

    Source: Improved DDPM Eq. 16
    Deviation: the released code takes t = 1 as the probability of one of 256 grey levels; here it is the density,
    which holds for latents too [fixed].
    """
    if process.T < 2:
        raise ValueError("the bound of a learned variance needs a process of at least two steps")
    truth = process.posterior(clean, x_t, t)
    guess = process.posterior(estimate.detach(), x_t, t).mean
    log_guess = log_variance(process, answer, t, t - 1)
    scaled = (truth.mean - guess) ** 2 * torch.exp(-log_guess)
    last = (t == 1)[:, None, None, None]
    log_true = torch.where(last, torch.ones_like(truth.variance), truth.variance).log()
    divergence = (log_guess - log_true + torch.exp(log_true - log_guess) + scaled - 1) / 2
    density = (math.log(2 * math.pi) + log_guess + scaled) / 2
    return torch.where(last, density, divergence).mean((1, 2, 3))

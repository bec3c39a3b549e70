"""The multinomial process: at every scale a token is kept, or drawn again from all codes alike."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from discrete_diffusion._types import Generators, LogCodes, PerToken, Times, Tokens
from discrete_diffusion.drawing import uniform
from discrete_diffusion.forward_process import ForwardProcess
from discrete_diffusion.imagebart._types import Codes, PerTime
from discrete_diffusion.schedule import Schedule


@dataclass(frozen=True)
class Pair:
    """Tokens at two neighbouring scales of one trajectory, (b, n) each: `before` = x_{t-1}, `after` = x_t."""

    before: Tokens
    after: Tokens


class Multinomial(nn.Module):
    r"""The process `q(x_t | x_{t-1}) = Cat(alpha_t v(x_{t-1}) + (1 - alpha_t) / K)` at the scales t = 1 .. n.

    `v` is one-hot, `abar_t` the product of the `alpha`, and t = 0 the clean tokens. Tokens are int64 (b, n), times
    int64 (b,). It has no parameters, and leaves nothing in the `state_dict`.

    Args:
        schedule: of `geometric`, `explicit` or `equidistant`; any without a mask whose `keep` falls at every scale.

    Raises:
        ValueError: if tokens are masked, or a scale has no noise of its own.

    Source: ImageBART multinomial forward process
    """

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        if bool((schedule.mask > 0).any()):
            raise ValueError("schedule: a multinomial process has no mask; take geometric, explicit or equidistant")
        if bool((schedule.keep.diff() >= 0).any()):
            raise ValueError(f"schedule: keep must fall at every scale, got {schedule.keep.tolist()}")
        self.marginal = ForwardProcess(schedule)

    @property
    def schedule(self) -> Schedule:
        """The schedule, on the device of this module."""
        return self.marginal.schedule

    @property
    def scales(self) -> int:
        """Number of scales, n."""
        return self.marginal.T

    @property
    def codes(self) -> int:
        """Number of codes, K."""
        return self.marginal.codes

    def prior(self, shape: tuple[int, int], *, generator: Generators = None) -> Tokens:
        """Draw tokens (b, n) uniformly from all codes: the coarsest scale."""
        return self.marginal.prior(shape, generator=generator)

    def sample(self, x_0: Tokens, t: Times, *, generator: Generators = None) -> Tokens:
        """Draw `x_t` given `x_0`: kept with probability `abar_t`, else uniform. `t` may be 0.

        Source: ImageBART multinomial forward process
        """
        return self.marginal.sample(x_0, t, generator=generator)

    def redraw(self, x: Tokens, probability: PerTime, *, generator: Generators = None) -> Tokens:
        """Draw each token again, uniformly from all codes, with a probability (b,) of its example."""
        u = uniform(tuple(x.shape), device=x.device, generator=generator)
        share = probability.to(u)[:, None].expand_as(u)
        code = (u / share.clamp_min(torch.finfo(u.dtype).tiny) * self.codes).clamp(0, self.codes - 1).long()
        return torch.where(u < share, code, x)

    def pair(self, x_0: Tokens, t: Times, *, generator: Generators = None) -> Pair:
        """Draw `x_{t-1}` given `x_0`, then `x_t` given `x_{t-1}`."""
        before = self.sample(x_0, t - 1, generator=generator)
        return Pair(before, self.redraw(before, self.beta(t), generator=generator))

    def beta(self, t: Times) -> PerTime:
        """Probability `beta_t` with which scale t draws a token again, (b,), float64."""
        return 1 - self._alpha(t)

    def posterior(self, x_0: Tokens, x_t: Tokens, t: Times) -> Codes:
        r"""`q(x_{t-1} | x_t, x_0)`, (b, n, k) in float64.

        It is proportional to `(abar_{t-1} v(x_0) + (1 - abar_{t-1}) / K) (alpha_t v(x_t) + (1 - alpha_t) / K)`, whose
        sum is `abar_t [x_t = x_0] + (1 - abar_t) / K`. At t = 1 all of it is at `x_0`.

        Source: ImageBART posterior
        """
        clean = self._smoothed(x_0, self.schedule.keep[t - 1])
        noised = self._smoothed(x_t, self._alpha(t))
        return clean.mul_(noised) / self.normaliser(x_0, x_t, t)[..., None]

    def normaliser(self, x_0: Tokens, x_t: Tokens, t: Times) -> PerToken:
        """`q(x_t | x_0) = abar_t [x_t = x_0] + (1 - abar_t) / K`, (b, n), float64.

        Source: ImageBART posterior
        """
        keep = self.schedule.keep[t, None]
        return keep * (x_0 == x_t) + (1 - keep) / self.codes

    def log_likelihood(self, x_t: Tokens, t: Times) -> Codes:
        """`log q(x_t | x_{t-1} = j)` over the codes j, (b, n, k), float64: what the noised token alone says."""
        return self._smoothed(x_t, self._alpha(t)).log()

    def divergence(self, log_p: LogCodes, x_0: Tokens, x_t: Tokens, t: Times) -> PerToken:
        """`KL( q(x_{t-1} | x_t, x_0) || p )` per token (b, n), float64 nats; at t = 1 it is `-log p(x_0)`.

        Args:
            log_p: a model's log-probabilities of `x_{t-1}`, normalised over the codes, (b, n, k).
            x_0: clean tokens.
            x_t: noised tokens.
            t: their scales, 1 .. n.

        Source: ImageBART analytic divergence
        """
        q = self.posterior(x_0, x_t, t)
        return torch.where(q > 0, q * (q.log() - log_p), 0).sum(-1)

    def _alpha(self, t: Tensor) -> Tensor:
        keep = self.schedule.keep
        return keep[t] / keep[t - 1]

    def _smoothed(self, x: Tensor, keep: Tensor) -> Tensor:
        """`keep v(x) + (1 - keep) / K` for tokens (b, n) and probabilities (b,)."""
        keep = keep[:, None, None]
        base = ((1 - keep) / self.codes).expand(*x.shape, self.codes)
        return base.scatter_add(-1, x[..., None], keep.expand(*x.shape, 1))

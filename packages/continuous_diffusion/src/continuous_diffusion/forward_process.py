r"""The forward process: Gaussian noise is added step by step, and any number of steps is one Gaussian."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from continuous_diffusion._types import Generators, Images, Signal, Times
from continuous_diffusion.noise import gaussian
from continuous_diffusion.schedule import Coefficients, Schedule


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution with one mean per unit, (b, c, h, w), and one variance per example, (b, 1, 1, 1)."""

    mean: Tensor
    variance: Tensor


class ForwardProcess(nn.Module):
    r"""$q(x_t \mid x_0) = N(\sqrt{\bar\alpha_t} x_0, (1 - \bar\alpha_t) I)$, and what follows from it.

    Where the schedule has a scale, every $x_t$ is multiplied by its $r_t$.
    The signal levels are a float64 buffer that is not saved; moving the module moves them.
    """

    levels: Tensor
    scales: Tensor | None

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        self.register_buffer("levels", schedule.signal, persistent=False)
        self.register_buffer("scales", schedule.scale, persistent=False)

    @property
    def T(self) -> int:
        """Number of steps."""
        return self.schedule.T

    def signal(self, t: Times) -> Signal:
        r"""$\bar\alpha_t$ of each example, float64, (b,); `t` counts from 0 (clean) to T.

        Raises ValueError for a `t` outside 0..T (checked where that costs no device synchronisation).
        """
        if t.device.type == "cpu" and t.numel() and not 0 <= int(t.min()) <= int(t.max()) <= self.T:
            raise ValueError(f"t: {t.tolist()} leaves 0..{self.T}, the steps of this schedule")
        return self.levels[t].double()

    def scale(self, t: Times) -> Signal | None:
        """$r_t$ of each example, float64, (b,), or None where it is 1 throughout."""
        return None if self.scales is None else self.scales[t].double()

    def coefficients(self, t: Times, like: Images) -> Coefficients:
        r"""$\alpha_t$ and $\sigma_t$ of each example, computed in float64, given in the dtype of `like`."""
        signal, scale = self.signal(t)[:, None, None, None], self.scale(t)
        if scale is None:
            return Coefficients(signal.sqrt().to(like.dtype), (1 - signal).sqrt().to(like.dtype))
        scale = scale[:, None, None, None]
        alpha, sigma = scale * signal.sqrt(), scale * (1 - signal).sqrt()
        return Coefficients(alpha.to(like.dtype), sigma.to(like.dtype), scale.to(like.dtype))

    def sample(self, x_0: Images, t: Times, noise: Images | None = None, *, generator: Generators = None) -> Images:
        r"""A draw $x_t = \sqrt{\bar\alpha_t} x_0 + \sqrt{1 - \bar\alpha_t} \epsilon$; $\epsilon$ may be given.

        Source: DDPM Eq. 4
        """
        if noise is None:
            noise = gaussian(x_0.shape, device=x_0.device, dtype=x_0.dtype, generator=generator)
        alpha, sigma, _ = self.coefficients(t, x_0)
        return alpha * x_0 + sigma * noise

    def transition(self, x_s: Images, s: Times, t: Times) -> Gaussian:
        r"""$q(x_t \mid x_s) = N(\sqrt{r} x_s, (1 - r) I)$ with $r = \bar\alpha_t / \bar\alpha_s$, for $s \le t$.

        Source: DDPM Eq. 4
        """
        ratio = self.signal(t) / self.signal(s)
        kept, variance = ratio.sqrt(), 1 - ratio
        if (now := self.scale(t)) is not None and (then := self.scale(s)) is not None:
            kept, variance = kept * now / then, variance * now**2
        kept, variance = (one[:, None, None, None].to(x_s.dtype) for one in (kept, variance))
        return Gaussian(mean=kept * x_s, variance=variance)

    def posterior(self, x_0: Images, x_t: Images, t: Times, s: Times | None = None) -> Gaussian:
        r"""$q(x_s \mid x_t, x_0)$ for $s < t$; $s = t - 1$ when not given.

        With $r = \bar\alpha_t / \bar\alpha_s$: mean $\frac{\sqrt{\bar\alpha_s} (1 - r)}{1 - \bar\alpha_t} x_0
        + \frac{\sqrt{r} (1 - \bar\alpha_s)}{1 - \bar\alpha_t} x_t$, variance
        $\frac{1 - \bar\alpha_s}{1 - \bar\alpha_t} (1 - r)$.

        Source: DDPM Eq. 7
        """
        s = t - 1 if s is None else s
        now, then = self.signal(t), self.signal(s)
        ratio = now / then
        from_clean = then.sqrt() * (1 - ratio) / (1 - now)
        from_noisy = ratio.sqrt() * (1 - then) / (1 - now)
        variance = (1 - then) / (1 - now) * (1 - ratio)
        if (large := self.scale(t)) is not None and (small := self.scale(s)) is not None:
            from_clean, from_noisy, variance = from_clean * small, from_noisy * small / large, variance * small**2
        clean, noisy, spread = (
            weight[:, None, None, None].to(x_t.dtype) for weight in (from_clean, from_noisy, variance)
        )
        return Gaussian(mean=clean * x_0 + noisy * x_t, variance=spread)


def times(b: int, t: int, device: torch.device | str = "cpu") -> Times:
    """The step `t` for each of `b` examples, int64, (b,)."""
    return torch.full((b,), t, dtype=torch.int64, device=device)

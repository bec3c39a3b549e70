"""The training objective of a scale, and the bound that the scales have together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from discrete_diffusion._types import PerExample, Times, Tokens
from discrete_diffusion.imagebart._types import Labels, Prefix, ScaleTerms
from discrete_diffusion.imagebart.denoiser import ScaleDenoiser
from discrete_diffusion.imagebart.forward_process import Multinomial
from discrete_diffusion.objective import Denoising


class ScaleObjective(nn.Module):
    r"""Loss of a scale's denoiser: `(1 - sampled) divergence + sampled cross_entropy`, a mean over tokens.

    Tokens `x_{t-1}` and `x_t` are drawn of one trajectory, and the denoiser predicts the one from the other, told the
    tokens before. Then, in nats per token,

        divergence    = KL( q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t) )   in closed form,
        cross_entropy = -log p(x_{t-1} | x_t)                             for the tokens drawn.

    At t = 1 they are the same number. A term of weight 0 is not computed, and not among the `terms`.

    Scales are trained one at a time or in parallel by an objective for each, with its `scale`, or jointly by one
    objective without, which draws a scale for each example; a denoiser then serves them all.

    Args:
        denoiser: of the scale.
        process: the forward process.
        scale: t, or None for one uniform on 1..n per example.
        sampled: weight of the cross-entropy to the tokens drawn, in [0, 1].

    Source: ImageBART analytic divergence, sampled cross-entropy
    Unstated: which of the two the intermediate scales take; the released FFHQ models took the second, the others the
        first, which is the default [sampled].
    """

    def __init__(
        self, denoiser: ScaleDenoiser, process: Multinomial, *, scale: int | None = None, sampled: float = 0.0
    ) -> None:
        super().__init__()
        if scale is not None and not 1 <= scale <= process.scales:
            raise ValueError(f"scale must be in 1 .. {process.scales}, or None for all, got {scale}")
        if not 0 <= sampled <= 1:
            raise ValueError(f"sampled must be in [0, 1], got {sampled}")
        self.denoiser, self.process, self.scale, self.sampled = denoiser, process, scale, sampled

    def forward(
        self,
        clean: Tokens,
        condition: Labels | Prefix | None = None,
        *,
        t: Times | None = None,
        generator: torch.Generator | None = None,
    ) -> Denoising:
        """Noise the clean tokens (b, n), predict the finer of two scales, and compare.

        Args:
            clean: tokens (b, n) below k.
            condition: labels (b,) or prefixes (b, p) for the denoiser.
            t: scales (b,); `scale`, or drawn, unless given.
            generator: source of t, then of the noise.

        Returns:
            The losses, with `log p(x_{t-1} | x_t)` as `estimate` and the features before the denoiser's last layer.
        """
        if t is None:
            t = self._scales(clean, generator)
        pair = self.process.pair(clean, t, generator=generator)
        prediction = self.denoiser(pair.after, t, condition, target=pair.before)
        estimate = prediction.value.float().log_softmax(-1)
        loss, terms = torch.zeros(len(clean), device=clean.device), {}
        if self.sampled < 1:
            terms["divergence"] = self.process.divergence(estimate, clean, pair.after, t).mean(1).float()
            loss = loss + (1 - self.sampled) * terms["divergence"]
        if self.sampled > 0:
            terms["cross_entropy"] = -estimate.gather(-1, pair.before[..., None]).squeeze(-1).mean(1)
            loss = loss + self.sampled * terms["cross_entropy"]
        return Denoising(loss, t, estimate, prediction.features, terms)

    def _scales(self, clean: Tensor, generator: torch.Generator | None) -> Times:
        if self.scale is not None:
            return torch.full((len(clean),), self.scale, device=clean.device)
        source = clean.device if generator is None else generator.device
        drawn = torch.randint(1, self.process.scales + 1, (len(clean),), device=source, generator=generator)
        return drawn.to(clean.device)


@dataclass(frozen=True)
class Bound:
    """An estimate of the bound on `-log p(x_0)`, in nats per token.

    Attributes:
        total: per example, (b,): the sum of the scales' terms and of the prior's.
        scales: that of scale t at t - 1, per example, (n_scales, b).
        prior: `KL(q(x_n | x_0) || uniform)`, 0 where the coarsest scale is pure noise.
    """

    total: PerExample
    scales: ScaleTerms
    prior: float


@torch.no_grad()
def bound(
    denoisers: Sequence[ScaleDenoiser],
    process: Multinomial,
    clean: Tokens,
    condition: Labels | Prefix | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Bound:
    """Estimate the bound on the negative log-likelihood of clean tokens (b, n) with one draw at each scale.

    Raises:
        ValueError: if there are not as many denoisers as scales.

    Source: ImageBART variational bound
    """
    if len(denoisers) != process.scales:
        raise ValueError(f"denoisers: {len(denoisers)} for a process of {process.scales} scales; give one for each")
    terms = []
    for t, denoiser in enumerate(denoisers, 1):
        objective = ScaleObjective(denoiser, process, scale=t)
        terms.append(objective(clean, condition, generator=generator).loss.double())
    keep, k = process.schedule.keep[-1], process.codes
    stay, other = keep + (1 - keep) / k, (1 - keep) / k
    prior = float(torch.xlogy(stay, stay * k) + (k - 1) * torch.xlogy(other, other * k))
    scales = torch.stack(terms)
    return Bound(scales.sum(0) + prior, scales, prior)

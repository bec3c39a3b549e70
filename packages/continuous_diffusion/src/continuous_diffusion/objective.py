r"""The training objective: noise a clean image, ask the denoiser for its target, measure the distance."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from continuous_diffusion._types import Images, LastFeatures, PerExample, Times
from continuous_diffusion.denoiser import Denoiser, Given, PredictionWithVariance, guides, null_condition, replaced
from continuous_diffusion.forward_process import ForwardProcess
from continuous_diffusion.learned_variance import bound_of_variance
from continuous_diffusion.noise import gaussian
from continuous_diffusion.target import EPSILON, Target, check_target
from continuous_diffusion.weighting import Weight, of_the_bound


@dataclass(frozen=True)
class Denoising:
    """What one evaluation of the objective gives.

    `loss` per example; the steps `t`; the `estimate` of the clean image; the denoiser's `features`; and the named
    `terms` that the loss is made of, per example.
    """

    loss: PerExample
    t: Times
    estimate: Images
    features: LastFeatures
    terms: dict[str, Tensor] = field(default_factory=dict)


def squared(value: Images, target: Images) -> Images:
    """The squared difference, unit by unit."""
    return (value - target) ** 2


def absolute(value: Images, target: Images) -> Images:
    """The absolute difference, unit by unit: what LDM uses for churches, inpainting, layout and semantic maps."""
    return (value - target).abs()


class Objective(nn.Module):
    r"""$E_{x_0, \epsilon, t}\, d(f_\theta(x_t, t, c), y)$, with $y$ the target and $t$ uniform on 1..T.

    `distance` is taken unit by unit and averaged over channels and positions. Whole rows of the condition (states
    and classes) are replaced by the denoiser's null condition with probability `condition_dropout`.

    The distance of each example is multiplied by the `weight` of its step (1 when None); that is the term
    `denoising`. Where `bound` is not 0, the term `bound` is the distance under the weights of the variational bound,
    and `bound` times it is added to the loss. With a denoiser that learns its variance it is the bound under that
    variance, and trains nothing else; the paper adds 0.001 T times it. At `bound` 0 the variance is not trained.

    Raises ValueError for a rate or a share out of range, and for the target `Epsilon` where the process ends in pure
    noise.

    Source: DDPM Eq. 14, Algorithm 1
    Source: LDM latent objective
    Unstated: the rate of condition dropout; 0.1, as in the paper on classifier-free guidance [condition_dropout].
    """

    def __init__(
        self,
        denoiser: Denoiser,
        process: ForwardProcess,
        *,
        target: Target = EPSILON,
        distance: Callable[[Tensor, Tensor], Tensor] = squared,
        weight: Weight | None = None,
        bound: float = 0.0,
        condition_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if not 0 <= condition_dropout <= 1:
            raise ValueError(f"condition_dropout: {condition_dropout} is not a probability")
        if bound < 0:
            raise ValueError(f"bound: {bound} is negative; it is the share of the bound in the loss, 0 for none")
        check_target(target, float(process.schedule.signal[-1]))
        self.denoiser = denoiser
        self.process = process
        self.target = target
        self.distance = distance
        self.weight = weight
        self.bound = bound
        self.condition_dropout = condition_dropout

    def forward(
        self,
        clean: Images,
        condition: Given | None = None,
        *,
        t: Times | None = None,
        generator: torch.Generator | None = None,
    ) -> Denoising:
        """The loss of each clean image, (b, c, h, w), at a random step or at the steps `t` in 1..T, (b,).

        Draws, in this order: steps, noise, dropped conditions.
        """
        if t is None:
            t = self._uniform_steps(clean, generator)
        noise = gaussian(clean.shape, device=clean.device, dtype=clean.dtype, generator=generator)
        if condition is not None and guides(condition) and self.condition_dropout > 0:
            condition = self._with_dropped_rows(condition, clean, generator)
        at = self.process.coefficients(t, clean)
        x_t = self.process.sample(clean, t, noise)
        prediction = self.denoiser(x_t, t, condition)
        value = prediction.value.to(clean.dtype)
        distance = self.distance(value, self.target.of(clean, noise, at)).mean((1, 2, 3))
        estimate = self.target.estimate(x_t, value, at)
        loss = distance if self.weight is None else self._under(self.weight, distance, t)
        terms = {"denoising": loss}
        if self.bound > 0:
            if isinstance(prediction, PredictionWithVariance):
                variance = prediction.variance.to(clean.dtype)
                terms["bound"] = bound_of_variance(self.process, clean, x_t, t, estimate, variance)
            else:
                terms["bound"] = self._under(of_the_bound, distance, t)
            loss = loss + self.bound * terms["bound"]
        return Denoising(
            loss=loss,
            t=t,
            estimate=estimate,
            features=prediction.features,
            terms=terms,
        )

    def _under(self, weight: Weight, distance: PerExample, t: Times) -> PerExample:
        return weight(self.process, self.target, t).to(distance.dtype) * distance

    def _uniform_steps(self, clean: Images, generator: torch.Generator | None) -> Times:
        device = clean.device if generator is None else generator.device
        steps = torch.randint(1, self.process.T + 1, (len(clean),), device=device, generator=generator)
        return steps.to(clean.device)

    def _with_dropped_rows(self, condition: Given, clean: Images, generator: torch.Generator | None) -> Given:
        device = clean.device if generator is None else generator.device
        draws = torch.rand(len(clean), device=device, generator=generator).to(clean.device)
        dropped = draws < self.condition_dropout
        return replaced(dropped, condition, null_condition(self.denoiser, condition))

"""The training objective: the variational bound and the auxiliary loss."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from discrete_diffusion._types import Condition, Features, LogCodes, PerExample, Times, Tokens
from discrete_diffusion.denoiser import Denoiser
from discrete_diffusion.drawing import uniform
from discrete_diffusion.forward_process import ForwardProcess
from discrete_diffusion.time_sampling import TimeSampler, UniformTimes


@dataclass(frozen=True)
class Denoising:
    """What the objective found.

    Attributes:
        loss: per example, (b,).
        t: times, (b,).
        estimate: `log p(x_0 | x_t)`, (b, n, k), float32.
        features: input of the denoiser's last layer, (b, d, h, w).
        terms: parts of the loss per example (b,), in nats per token, before weights: "vlb", "auxiliary".
    """

    loss: PerExample
    t: Times
    estimate: LogCodes
    features: Features
    terms: dict[str, PerExample]


class Objective(nn.Module):
    r"""Loss of a denoiser on clean tokens.

    With t drawn with probability `p_t`, and everything a mean over tokens,

        loss = (vlb_weight vlb_t + auxiliary_weight a_t auxiliary_t) / p_t,

    `vlb_t = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t))`, which at t = 1 is `-log p(x_0 | x_1)`;
    `auxiliary_t = -log p(x_0 | x_t)`; `a_t = 2 - (t - 1) / T` if `adaptive`, else 1. So its mean estimates the bound,
    a *sum* over the T steps, in nats per token. With `mean_over_steps` it is divided by T, and compares with
    cross-entropy.

    Plain cross-entropy is `vlb_weight=0.0, auxiliary_weight=1.0, adaptive=False, mean_over_steps=True`.
    A term of weight 0 is not computed, and not among the `terms`.

    Args:
        denoiser: predicts the clean tokens.
        process: the forward process.
        condition_dropout: probability that an example's condition is replaced by `denoiser.null_condition`.
        vlb_weight: weight of the bound.
        auxiliary_weight: weight of the auxiliary loss; 5e-4 in the paper's text models, 1e-3 in the others.
        adaptive: whether the auxiliary loss weighs more at small t.
        mean_over_steps: divide by T.
        masked_weight: weight of masked tokens, in both terms, at t > 1 (the auxiliary one also at t = 1).
        plain_weight: weight of the others.
        times: law of t; uniform unless given. It is told the losses while the module is in training mode.

    Source: VQ-Diffusion variational bound, auxiliary loss
    Source: Improved VQ-Diffusion learnable null condition
    Unstated: the prior term `KL(q(x_T | x_0) || p(x_T))`; left out, being constant, as in the released code [fixed].
    """

    def __init__(
        self,
        denoiser: Denoiser,
        process: ForwardProcess,
        *,
        condition_dropout: float = 0.1,
        vlb_weight: float = 1.0,
        auxiliary_weight: float = 5e-4,
        adaptive: bool = True,
        mean_over_steps: bool = False,
        masked_weight: float = 1.0,
        plain_weight: float = 1.0,
        times: TimeSampler | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= condition_dropout <= 1:
            raise ValueError(f"condition_dropout must be in [0, 1], got {condition_dropout}")
        if min(vlb_weight, auxiliary_weight) < 0 or vlb_weight + auxiliary_weight == 0:
            raise ValueError(
                f"weights must be >= 0 and not both 0, got {vlb_weight} (vlb), {auxiliary_weight} (auxiliary)"
            )
        self.denoiser, self.process = denoiser, process
        self.times = UniformTimes(process.T) if times is None else times
        self.condition_dropout, self.adaptive, self.mean_over_steps = condition_dropout, adaptive, mean_over_steps
        self.vlb_weight, self.auxiliary_weight = vlb_weight, auxiliary_weight
        self.masked_weight, self.plain_weight = masked_weight, plain_weight

    def forward(
        self,
        clean: Tokens,
        condition: Condition | None = None,
        *,
        t: Times | None = None,
        weights: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Denoising:
        """Noise the clean tokens (b, n), denoise them, and compare.

        Args:
            clean: tokens (b, n) below k.
            condition: states (b, l, d_c) or labels (b,) for the denoiser.
            t: times (b,) in 1..T; drawn from `times` unless given.
            weights: of the tokens, (b, n) >= 0, in both terms, on top of `masked_weight` and `plain_weight`; 1 unless
                given. The mean over tokens is not divided by theirs.
            generator: source of t, then of the noise, then of the dropped conditions.

        Raises:
            ValueError: if tokens (on the CPU) or weights are out of range, or weights are not (b, n).
        """
        self._check(clean, weights)
        if t is None:
            t = self.times.sample(len(clean), device=clean.device, generator=generator)
        x_t = self.process.sample(clean, t, generator=generator)
        condition = None if condition is None else self._drop(condition, generator)
        prediction = self.denoiser(x_t, t, condition)
        estimate = prediction.value.float().log_softmax(-1)
        terms = self._terms(estimate, clean, x_t, t, weights)
        loss = self._loss(terms, t)
        if self.training and "vlb" in terms:
            self.times.update(t, terms["vlb"].detach() * clean.shape[1])
        return Denoising(loss, t, estimate, prediction.features, terms)

    def _check(self, clean: Tensor, weights: Tensor | None) -> None:
        if clean.device.type == "cpu":  # elsewhere the device's own assertions speak, and asking would wait for it
            least, most = (int(bound) for bound in clean.aminmax())
            if least < 0 or most >= self.process.codes:
                raise ValueError(f"clean: tokens must be in 0..{self.process.codes - 1}, got {least}..{most}")
        if weights is not None and (weights.shape != clean.shape or bool((weights < 0).any())):
            raise ValueError(
                f"weights: expected {tuple(clean.shape)} values of at least 0, one a token, got {tuple(weights.shape)}"
                f" from {weights.min().item():g}"
            )

    def _terms(
        self, estimate: Tensor, clean: Tensor, x_t: Tensor, t: Tensor, weights: Tensor | None
    ) -> dict[str, Tensor]:
        weight = torch.where(x_t == self.process.codes, self.masked_weight, self.plain_weight)
        first = torch.ones_like(weight)
        if weights is not None:
            weight, first = weight * weights, first * weights
        terms = {}
        if self.vlb_weight > 0:
            at_first = torch.where((t == 1)[:, None], first, weight)
            terms["vlb"] = (at_first * self.process.divergence(estimate, clean, x_t, t)).mean(1)
        if self.auxiliary_weight > 0:
            terms["auxiliary"] = -(weight * estimate.gather(-1, clean[..., None]).squeeze(-1)).mean(1)
        return terms

    def _loss(self, terms: dict[str, Tensor], t: Tensor) -> Tensor:
        adaptive = 2 - (t - 1) / self.process.T if self.adaptive else 1.0
        total = torch.zeros(t.shape, device=t.device)
        if "vlb" in terms:
            total = total + self.vlb_weight * terms["vlb"]
        if "auxiliary" in terms:
            total = total + self.auxiliary_weight * adaptive * terms["auxiliary"]
        return total / (self.times.probability(t) * (self.process.T if self.mean_over_steps else 1))

    def _drop(self, condition: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.condition_dropout == 0:
            return condition
        b, per_example = len(condition), (1,) * (condition.ndim - 1)
        dropped = uniform((b,), device=condition.device, generator=generator) < self.condition_dropout
        null = self.denoiser.null_condition(b, condition.shape[1] if condition.ndim == 3 else 1).to(condition)
        return torch.where(dropped.view(b, *per_example), null, condition)

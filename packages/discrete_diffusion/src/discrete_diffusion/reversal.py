r"""The posterior of a step, as an affine function of the prediction.

With `p_j = p(x_0 = j | x_t)`, the mixture `sum_j q(x_s | x_t, x_0 = j) p_j` over the states of `x_s` is

    stay                       at x_s = x_t,
    slope * p_j + offset       at any other code x_s = j,
    0                          at the mask, where x_t is none,

whatever s < t. So it costs O(K) per token, and no transition matrix is ever built.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_diffusion._types import Column, PerToken, Times, Tokens
from discrete_diffusion.schedule import Schedule

FLOOR = math.exp(-70)
"""The probability of impossible states, that of the released code: positive, so that logarithms have gradients."""


@dataclass(frozen=True)
class Affine:
    """`slope`, `offset`, `stay` of the module's formula, per token (b, n)."""

    slope: PerToken
    offset: PerToken
    stay: PerToken

    def log(self, log_p: Tensor) -> Tensor:
        """Logarithm of `slope * p + offset` for `log_p` of shape (b, n) or (b, n, k)."""
        more = (...,) + (None,) * (log_p.ndim - self.slope.ndim)
        return torch.addcmul(self.offset[more] + FLOOR, self.slope[more], log_p.exp()).log()


@dataclass(frozen=True)
class Reversal:
    """Weights of the posterior of the step from t to s, per example (b, 1), for a masked and for a plain token.

    `same` are the weights where `x_0 = x_t`, `other` those where it is not.
    """

    mask_slope: Column
    mask_offset: Column
    mask_stay: Column
    slope: Column
    offset_same: Column
    offset_other: Column
    stay_same: Column
    stay_other: Column

    @classmethod
    def of(cls, schedule: Schedule, t: Times, s: Times, *, dtype: torch.dtype) -> "Reversal":
        r"""Bayes' rule `q(x_s | x_t, x_0) = q(x_t | x_s) q(x_s | x_0) / q(x_t | x_0)`, computed in float64.

        Where the schedule makes `x_t` impossible (0 / 0), a plain token stays what it is, and so does a mask.

        Source: VQ-Diffusion posterior, stride inference
        """
        alpha, beta, gamma = schedule.transition(t, s)
        beta = beta.clamp_min(0)
        keep_s, replace_s, mask_s = schedule.keep[s], schedule.replace[s], schedule.mask[s]
        replace_t, mask_t = schedule.replace[t], schedule.mask[t]
        kept_t = schedule.keep[t] + replace_t
        weights = (
            _ratio(gamma * keep_s, mask_t, 0.0),
            _ratio(gamma * replace_s, mask_t, 0.0),
            _ratio(mask_s, mask_t, 1.0),
            _ratio(beta * keep_s, replace_t, 0.0),
            _ratio(beta * replace_s, kept_t, 0.0),
            _ratio(beta * replace_s, replace_t, 0.0),
            _ratio((alpha + beta) * (keep_s + replace_s), kept_t, 1.0),
            _ratio((alpha + beta) * replace_s, replace_t, 1.0),
        )
        return cls(*(weight.to(dtype)[:, None] for weight in weights))

    def at(self, x_t: Tokens, log_same: PerToken, *, mask: int) -> Affine:
        """Weights of every token, given `log p(x_0 = x_t | x_t)`, of which no notice is taken at masks."""
        masked = x_t == mask
        p_same, p_other = log_same.exp(), -torch.expm1(log_same.clamp_max(0))
        offset = p_same * self.offset_same + p_other * self.offset_other
        stay = p_same * self.stay_same + p_other * self.stay_other
        return Affine(
            slope=torch.where(masked, self.mask_slope, self.slope),
            offset=torch.where(masked, self.mask_offset, offset),
            stay=torch.where(masked, self.mask_stay, stay),
        )


def _ratio(numerator: Tensor, denominator: Tensor, impossible: float) -> Tensor:
    possible = denominator > 0
    return torch.where(possible, numerator / torch.where(possible, denominator, 1.0), impossible)

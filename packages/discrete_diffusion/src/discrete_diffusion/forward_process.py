"""The mask-and-replace process: its marginals, its exact posteriors, and their divergence."""

import torch
from torch import Tensor, nn

from discrete_diffusion._types import Generators, LogCodes, LogStates, PerToken, Times, Tokens
from discrete_diffusion.drawing import categorical, uniform
from discrete_diffusion.reversal import FLOOR, Reversal
from discrete_diffusion.schedule import Schedule


class ForwardProcess(nn.Module):
    """The process `q(x_t | x_0)` over tokens with states 0 .. K - 1 and the mask, K.

    Tokens are int64 (b, n), times int64 (b,) in 1..T. It has no parameters and leaves nothing in the `state_dict`;
    `.to(device)` moves it, and the schedule stays float64 whatever dtype the module is cast to.

    Args:
        schedule: cumulative probabilities.
    """

    _anchor: Tensor

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self._schedule = schedule
        self._replaces = bool((schedule.replace > 0).any())
        self.register_buffer("_anchor", torch.empty(0, device=schedule.keep.device), persistent=False)

    @property
    def schedule(self) -> Schedule:
        """The schedule, on the device of this module."""
        if self._schedule.keep.device != self._anchor.device:
            self._schedule = self._schedule.to(self._anchor.device)
        return self._schedule

    @property
    def T(self) -> int:
        """Number of steps."""
        return self._schedule.T

    @property
    def codes(self) -> int:
        """Number of codes, K; also the index of the mask."""
        return self._schedule.codes

    def prior(self, shape: tuple[int, int], *, generator: Generators = None) -> Tokens:
        """Draw `x_T`, tokens (b, n): the mask with probability `gbar_T`, any other code with `1 - gbar_T` together.

        Source: VQ-Diffusion reverse process
        Deviation: a mass `abar_T > 0` (9e-6 in the released schedule) goes to the codes, so that the law sums to 1
            [fixed].
        """
        u = uniform(shape, device=self._anchor.device, generator=generator)
        mask = self.schedule.mask[-1]
        code = ((u - mask) / (1 - mask).clamp_min(FLOOR) * self.codes).long().clamp(0, self.codes - 1)
        return torch.where(u < mask, self.codes, code)

    def sample(self, x_0: Tokens, t: Times, *, generator: Generators = None) -> Tokens:
        """Draw `x_t` given `x_0`, from one uniform number a token. `t` may be 0.

        Source: VQ-Diffusion cumulative transition
        """
        u = uniform(tuple(x_0.shape), device=x_0.device, generator=generator)
        mask, replace = self.schedule.mask[t, None], self.schedule.replace[t, None]
        code = ((u - mask) / replace.clamp_min(FLOOR)).clamp(0, self.codes - 1).long()
        noised = torch.where(u < mask + self.codes * replace, code, x_0)
        return torch.where(u < mask, self.codes, noised)

    def log_marginal(self, x_0: Tokens, t: Times) -> LogStates:
        """`log q(x_t | x_0)` over the k + 1 states, (b, n, k + 1) in float64, impossible states at -70.

        Source: VQ-Diffusion cumulative transition
        """
        keep, replace, mask = (
            p[t, None, None] for p in (self.schedule.keep, self.schedule.replace, self.schedule.mask)
        )
        codes = replace.expand(*x_0.shape, self.codes).scatter_add(-1, x_0[..., None], keep.expand(*x_0.shape, 1))
        return _log(torch.cat([codes, mask.expand(*x_0.shape, 1)], -1))

    def log_posterior(self, log_x0: LogCodes, x_t: Tokens, t: Times, s: Times | None = None) -> LogStates:
        r"""`log sum_j q(x_s | x_t, x_0 = j) p(x_0 = j | x_t)`, exact for any s < t, in O(K) per token.

        Args:
            log_x0: log-probabilities of the clean token, normalised over its last axis, (b, n, k).
            x_t: noised tokens (b, n).
            t: their times (b,).
            s: times (b,) to go back to, 0 <= s < t; t - 1 unless given.

        Returns:
            Log-probabilities (b, n, k + 1) in the dtype of `log_x0`, impossible states at -70.

        Source: VQ-Diffusion posterior, reverse process, stride inference
        """
        self._check(log_x0, x_t)
        log_same = log_x0.gather(-1, x_t.clamp_max(self.codes - 1)[..., None]).squeeze(-1)
        weights = self._reversal(t, s, log_x0.dtype).at(x_t, log_same, mask=self.codes)
        codes = torch.addcmul(weights.offset[..., None], weights.slope[..., None], log_x0.exp())
        states = torch.nn.functional.pad(codes, (0, 1))
        return _log(states.scatter(-1, x_t[..., None], weights.stay[..., None]))

    def sample_posterior(
        self, log_x0: LogCodes, x_t: Tokens, t: Times, s: Times | None = None, *, generator: Generators = None
    ) -> Tokens:
        """Draw `x_s` from `log_posterior(log_x0, x_t, t, s)`, from one uniform number a token.

        The number decides first whether a token stays what it is, and what is left of it decides what it becomes; so
        the codes are looked at only for the tokens that change.

        Source: VQ-Diffusion reverse process
        """
        self._check(log_x0, x_t)
        log_same = log_x0.gather(-1, x_t.clamp_max(self.codes - 1)[..., None]).squeeze(-1).double()
        weights = self._reversal(t, s, torch.float64).at(x_t, log_same, mask=self.codes)
        u = uniform(tuple(x_t.shape), device=x_t.device, generator=generator)
        b, n = torch.nonzero((u >= weights.stay) & (weights.slope + weights.offset > 0), as_tuple=True)
        slope, offset, stay = (weight[b, n] for weight in (weights.slope, weights.offset, weights.stay))
        law = torch.addcmul(offset[:, None], slope[:, None], log_x0[b, n].double().exp())
        law.masked_fill_(torch.arange(self.codes, device=x_t.device) == x_t[b, n, None], 0)
        return x_t.index_put((b, n), categorical(law, (u[b, n] - stay) / (1 - stay)))

    def log_true_posterior(self, x_0: Tokens, x_t: Tokens, t: Times, s: Times | None = None) -> LogStates:
        """`log q(x_s | x_t, x_0)`, (b, n, k + 1) in float64, for any s < t (t - 1 unless given).

        Source: VQ-Diffusion posterior, stride inference
        """
        log_same = _log_indicator(x_0 == x_t, torch.float64)
        weights = self._reversal(t, s, torch.float64).at(x_t, log_same, mask=self.codes)
        codes = (
            weights.offset[..., None].repeat(1, 1, self.codes).scatter_add(-1, x_0[..., None], weights.slope[..., None])
        )
        states = torch.nn.functional.pad(codes, (0, 1))
        return _log(states.scatter(-1, x_t[..., None], weights.stay[..., None]))

    def divergence(self, log_x0: LogCodes, x_0: Tokens, x_t: Tokens, t: Times, s: Times | None = None) -> PerToken:
        r"""`KL( q(x_s | x_t, x_0) || p(x_s | x_t) )` per token, in nats; at s = 0 it is `-log p(x_0 | x_t)`.

        Both distributions are affine in one-hot `x_0` and in `p(x_0)`, so one pass over the codes is all it takes:
        with P, Q the two, `sum_j Q_j log P_j` needs `sum_j log P_j` and the entries at `x_0` and `x_t` alone; where no
        token is ever replaced, masks alone have a divergence, and not even the sum is needed.

        Source: VQ-Diffusion variational bound
        """
        self._check(log_x0, x_t)
        reversal = self._reversal(t, s, log_x0.dtype)
        log_same, log_right = log_x0.gather(-1, torch.stack([x_t.clamp_max(self.codes - 1), x_0], -1)).unbind(-1)
        prediction = reversal.at(x_t, log_same, mask=self.codes)
        truth = reversal.at(x_t, _log_indicator(x_0 == x_t, log_x0.dtype), mask=self.codes)
        plain, moved = (x_t < self.codes).to(log_x0.dtype), x_t != x_0
        peak = truth.slope + truth.offset
        at_x0 = _xlogx(peak) - _xlogx(truth.offset) - truth.slope * prediction.log(log_right)
        if not self._replaces:
            return moved * at_x0
        at_xt = _xlogx(truth.stay) - truth.stay * (prediction.stay + FLOOR).log()
        log_elsewhere = prediction.log(log_x0).sum(-1) - plain * prediction.log(log_same)
        return (self.codes - plain) * _xlogx(truth.offset) - truth.offset * log_elsewhere + moved * at_x0 + at_xt

    def _reversal(self, t: Times, s: Times | None, dtype: torch.dtype) -> Reversal:
        return Reversal.of(self.schedule, t, t - 1 if s is None else s, dtype=dtype)

    def _check(self, log_x0: Tensor, x_t: Tensor) -> None:
        if log_x0.shape != (*x_t.shape, self.codes):
            raise ValueError(f"log_x0: expected (b, n, k) = {(*x_t.shape, self.codes)}, got {tuple(log_x0.shape)}")
        if log_x0.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"log_x0 must be float32 or float64, got {log_x0.dtype}; take .float() before log_softmax")


def _log_indicator(condition: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.where(condition, 0.0, -torch.inf).to(dtype)


def _log(p: Tensor) -> Tensor:
    return p.clamp_min(FLOOR).log()


def _xlogx(p: Tensor) -> Tensor:
    return torch.xlogy(p, p)

"""Noise schedules of the mask-and-replace process, as cumulative probabilities."""

from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_diffusion._types import Cumulative

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Schedule:
    r"""Cumulative probabilities of the mask-and-replace process at steps 0 (clean) to T.

    A token is kept with probability `keep[t] = abar_t`, masked with `mask[t] = gbar_t`, and otherwise drawn again, each
    of the `codes` with `replace[t] = bbar_t = (1 - abar_t - gbar_t) / codes`.

    Args:
        keep: float64, shape (T + 1,), in [0, 1], from 1, positive before T.
        mask: float64, shape (T + 1,), in [0, 1], from 0, below 1 before T.
        codes: number of codes, K.

    Raises:
        ValueError: if the two are no cumulative product of transition matrices.

    Source: VQ-Diffusion cumulative transition
    """

    keep: Cumulative
    mask: Cumulative
    codes: int

    def __post_init__(self) -> None:
        keep, mask = self.keep, self.mask
        if keep.dtype != torch.float64 or mask.dtype != torch.float64:
            raise TypeError(f"keep and mask must be float64, got {keep.dtype} and {mask.dtype}")
        if keep.ndim != 1 or keep.shape != mask.shape or len(keep) < 2:
            raise ValueError(
                f"keep and mask must both have shape (T + 1,), got {tuple(keep.shape)}, {tuple(mask.shape)}"
            )
        if self.codes < 2:
            raise ValueError(f"codes must be at least 2, got {self.codes}")
        if keep[0] != 1 or mask[0] != 0:
            raise ValueError(f"step 0 is clean: keep[0] = 1 and mask[0] = 0, got {keep[0].item()} and {mask[0].item()}")
        if bool((keep[:-1] <= 0).any()) or bool((mask[:-1] >= 1).any()):
            raise ValueError("keep must be positive and mask below 1 before the last step; lower T or the final rates")
        if bool((keep + mask > 1 + _ROUNDING).any()):
            raise ValueError("keep + mask must be at most 1; what is left is replaced")
        alpha, beta, gamma = self.transition(torch.arange(1, len(keep)))
        if bool((torch.stack([alpha, beta, gamma]) < -_ROUNDING).any()) or bool((keep < 0).any()):
            raise ValueError(
                "keep, 1 - mask and keep / (1 - mask) must not rise with t: some step has a negative probability"
            )

    @property
    def T(self) -> int:
        """Number of steps."""
        return len(self.keep) - 1

    @property
    def replace(self) -> Cumulative:
        """Probability `bbar_t` of each one code when a token was drawn again, shape (T + 1,)."""
        return ((1 - self.keep - self.mask) / self.codes).clamp_min(0)

    def to(self, device: torch.device) -> "Schedule":
        """The same schedule, its tensors on `device`."""
        return Schedule(self.keep.to(device), self.mask.to(device), self.codes)

    def transition(self, t: Tensor, s: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        r"""Probabilities `(alpha, beta, gamma)` of the transition from step s < t (default t - 1) to step t.

        `alpha = abar_t / abar_s`, `1 - gamma = (1 - gbar_t) / (1 - gbar_s)`, `K beta = 1 - alpha - gamma`, the last two
        computed in forms that cancel less, so that posteriors sum to 1.

        Source: VQ-Diffusion transition matrix
        """
        s = t - 1 if s is None else s
        alpha = self.keep[t] / self.keep[s]
        gamma = (self.mask[t] - self.mask[s]) / (1 - self.mask[s])
        beta = (self.replace[t] - alpha * self.replace[s]) / (1 - self.mask[s])
        return alpha, beta, gamma

    @classmethod
    def paper(cls, T: int, codes: int, *, final_mask: float = 0.9) -> "Schedule":
        """Linear schedule of the paper: `gbar` from 0 to `final_mask` (0.9), `K bbar` from 0 to the rest (0.1).

        Source: VQ-Diffusion noise schedule
        """
        u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
        return cls(1 - u, final_mask * u, codes)

    @classmethod
    def released(
        cls,
        T: int,
        codes: int,
        *,
        keep: tuple[float, float] = (0.99999, 0.000009),
        mask: tuple[float, float] = (0.000009, 0.99999),
    ) -> "Schedule":
        """Linear schedule of the released code: `abar` from 0.99999 at t = 1 to 9e-6 at T, `gbar` the other way round.

        Other values at t = 1 and T than those released may be given.

        Source: VQ-Diffusion noise schedule
        Deviation: the paper replaces 10 % of the tokens by T; the released constants replace 1e-6 of them, at every t
            [Schedule.paper].
        """
        zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        u = torch.arange(T, dtype=torch.float64) / max(T - 1, 1)
        kept, masked = (u * (last - first) + first for first, last in (keep, mask))
        return cls(torch.cat([one, kept]), torch.cat([zero, masked]), codes)

    @classmethod
    def mask_only(cls, T: int, codes: int) -> "Schedule":
        """Linear absorbing schedule: `gbar_t = t / T`, no token is ever replaced."""
        u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
        return cls(1 - u, u, codes)

    @classmethod
    def uniform_only(cls, T: int, codes: int) -> "Schedule":
        """Linear multinomial schedule: `K bbar_t = t / T`, no token is ever masked."""
        u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
        return cls(1 - u, torch.zeros_like(u), codes)

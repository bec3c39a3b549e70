"""The denoiser as a solver sees it: asked for a state and a step, it answers with a clean image and a noise."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from continuous_diffusion._types import Images
from continuous_diffusion.denoiser import Denoiser, Given, PredictionWithVariance
from continuous_diffusion.forward_process import ForwardProcess, times
from continuous_diffusion.solvers import Components
from continuous_diffusion.target import Clean, Target

Clip = float | Callable[[Images], Images]


@dataclass(frozen=True)
class DynamicThreshold:
    r"""Bounds each image by the quantile $s$ of its absolute values, at least `floor`: clamped to $\pm s$, over $s$.

    Keeps strongly guided pixels in -1..1 without saturating them. To be given as `clip`.

    Raises ValueError for a quantile outside 0..1, or a floor that is not positive.

    Source: Imagen dynamic thresholding
    """

    quantile: float = 0.995
    floor: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.quantile <= 1 or self.floor <= 0:
            raise ValueError(f"expected a quantile in 0..1 and a positive floor, got {self}")

    def __call__(self, images: Images) -> Images:
        """The bounded images; each depends on itself alone."""
        bounds = [torch.quantile(one.abs().float().flatten(), self.quantile) for one in images]
        bound = torch.stack(bounds).clamp(min=self.floor).to(images.dtype)[:, None, None, None]
        return images.clamp(-bound, bound) / bound


@dataclass(frozen=True)
class Predictor:
    """The denoiser, asked in the coordinate of its target, answering with both components."""

    denoiser: Denoiser
    condition: Given | None
    process: ForwardProcess
    target: Target
    clip: Clip | None

    def __call__(self, x: Images, t: int) -> Components:
        """The components of the state at step t; a bounded clean image comes with the noise that agrees with it."""
        steps = times(len(x), t, x.device)
        at = self.process.coefficients(steps, x)
        prediction = self.denoiser(x, steps, self.condition)
        value = prediction.value.to(x.dtype)
        variance = prediction.variance.to(x.dtype) if isinstance(prediction, PredictionWithVariance) else None
        estimate = self.target.estimate(x, value, at)
        if self.clip is None:
            return Components(estimate, self.target.noise(x, value, at), variance)
        estimate = self.clip(estimate) if callable(self.clip) else estimate.clamp(-self.clip, self.clip)
        return Components(estimate, Clean().noise(x, estimate, at), variance)

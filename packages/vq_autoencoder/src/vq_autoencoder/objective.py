"""What a first stage is trained on: distance, bottleneck losses, adversary."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ._types import Images, Logits, PerExample, Scalar
from .autoencoder import TokenAutoencoder
from .discriminator import PatchGAN
from .kl_autoencoder import KLAutoencoder
from .ranks import mean_over
from .results import Reconstruction

Distance: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Reduction: TypeAlias = Callable[[Tensor], Tensor]
Judgement: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Autoencoding:
    """Loss per example, the reconstruction, and the weighted terms of the loss: `loss = sum(terms)`."""

    loss: PerExample
    reconstruction: Reconstruction
    terms: dict[str, PerExample]


def absolute_error(x: Images, y: Images) -> Images:
    """Return `|x - y|`, element by element."""
    return (x - y).abs()


def gradient_difference(x: Images, y: Images) -> PerExample:
    """L1 distance of the horizontal and vertical differences: `mean |dx(x) - dx(y)| + mean |dy(x) - dy(y)|`.

    A term that keeps edges without a network; made for `FirstStageObjective(perceptual=...)`.

    Source: Mathieu et al. gradient difference loss
    Deviation: the paper compares the absolute values of the differences; here their signs count too, so that an edge
        is not matched by its reverse [fixed].
    """
    error = x - y
    return error.diff(dim=3).abs().mean(dim=(1, 2, 3)) + error.diff(dim=2).abs().mean(dim=(1, 2, 3))


def mean_over_elements(values: Images) -> PerExample:
    """Mean over channels and pixels: the released VQ objective, averaged over examples."""
    return values.mean(dim=(1, 2, 3))


def sum_over_elements(values: Images) -> PerExample:
    """Sum over channels and pixels: the released KL objective, averaged over examples."""
    return values.sum(dim=(1, 2, 3))


def hinge_loss(real: Logits, fake: Logits) -> PerExample:
    """Return the discriminator's `1/2 (mean relu(1 - D(x)) + mean relu(1 + D(x_hat)))`, means over patches.

    Source: VQGAN adversarial loss
    Deviation: the paper writes the logistic loss; the released code, and this, use the hinge
        [FirstStageObjective.adversarial_loss].
    """
    return 0.5 * (F.relu(1 - real).mean(dim=(1, 2, 3)) + F.relu(1 + fake).mean(dim=(1, 2, 3)))


def logistic_loss(real: Logits, fake: Logits) -> PerExample:
    """Return the discriminator's `-1/2 (mean log s(D(x)) + mean log(1 - s(D(x_hat))))`, s the logistic function.

    What the released code calls "vanilla".

    Source: VQGAN adversarial loss
    """
    return 0.5 * (F.softplus(-real).mean(dim=(1, 2, 3)) + F.softplus(fake).mean(dim=(1, 2, 3)))


def adaptive_weight(reconstruction_loss: Scalar, adversarial_loss: Scalar, last_layer: Tensor) -> Scalar:
    """Return `|grad reconstruction| / (|grad adversarial| + 1e-4)` at `last_layer`, clamped to [0, 1e4], detached.

    Where `torch.distributed` is initialised the gradients are means over ranks, as those of the joint batch are.

    Source: VQGAN adaptive weight
    Deviation: the paper adds 1e-6 to the denominator and does not clamp; the released code, and this, add 1e-4 and
        clamp [fixed].
    """
    losses = (reconstruction_loss, adversarial_loss)
    gradients = [torch.autograd.grad(loss, last_layer, retain_graph=True)[0] for loss in losses]
    wanted, adverse = (mean_over(gradient).norm() for gradient in gradients)
    weight: Tensor = (wanted / (adverse + 1e-4)).clamp(0.0, 1e4).detach()
    return weight


class FirstStageObjective(nn.Module):
    """The training loss of an autoencoder, and of its adversary.

        error = distance(x, x_hat) + perceptual_weight * perceptual(x, x_hat)            per element
        loss = reduction(error / exp(log_variance) + log_variance) + bottleneck + adaptive * adversarial_weight *
        (-D(x_hat))

    The bottleneck's terms come weighted ("commitment", "codebook", "prior", "entropy"), but for "kl", which
    `kl_weight` multiplies. The adversary
    takes part from step `adversarial_start` on; before it neither network sees the other. Its parameters get no
    gradient from `forward`.

    Args:
        distance: (x, x_hat) to a distance per element (b, c, H, W).
        perceptual: (x, x_hat) to a distance per example (b,), added to every element.
        adversarial_loss: (logits of real, of fake) to the adversary's loss per example: `hinge_loss`, `logistic_loss`.
        reduction: elements (b, c, H, W) to examples (b,). None takes that of the released code: the mean for a
            TokenAutoencoder, the sum for a KLAutoencoder, where `kl_weight` 1e-6 belongs to it. With the mean, divide
            `kl_weight` by the number of elements.
        log_variance: of the Laplace likelihood, fixed.

    Parameters of both networks are in `parameters()`; give each optimiser those of one.

    Raises:
        ValueError: a weight is negative.

    Source: LDM first stage objective
    Unstated: the reduction and the weights; those of the released code, 1e-6 and 0.75
        [reduction, kl_weight, adversarial_weight].
    Deviation: the released code has `log_variance` as a parameter that no optimiser gets; here it is a number
        [log_variance].
    """

    def __init__(
        self,
        autoencoder: TokenAutoencoder | KLAutoencoder,
        *,
        distance: Distance = absolute_error,
        perceptual: Distance | None = None,
        perceptual_weight: float = 1.0,
        kl_weight: float = 1e-6,
        adversary: PatchGAN | None = None,
        adversarial_weight: float = 0.75,
        adversarial_start: int = 0,
        adversarial_loss: Judgement = hinge_loss,
        reduction: Reduction | None = None,
        log_variance: float = 0.0,
    ) -> None:
        super().__init__()
        if min(perceptual_weight, kl_weight, adversarial_weight) < 0:
            raise ValueError("perceptual_weight, kl_weight and adversarial_weight must not be negative")
        self.autoencoder = autoencoder
        self.adversary = adversary
        self.distance = distance
        self.perceptual = perceptual
        self.perceptual_weight = perceptual_weight
        self.kl_weight = kl_weight
        self.adversarial_weight = adversarial_weight
        self.adversarial_start = adversarial_start
        self.adversarial_loss = adversarial_loss
        summed = isinstance(autoencoder, KLAutoencoder)
        self.reduction = reduction or (sum_over_elements if summed else mean_over_elements)
        self.log_variance = log_variance

    def forward(
        self, images: Images, *, step: int = 0, quantise: bool = True, generator: torch.Generator | None = None
    ) -> Autoencoding:
        """Loss of the autoencoder on images in [-1, 1]; a KLAutoencoder has nothing to `quantise`.

        Raises:
            ValueError: the autoencoder refuses the images.
        """
        if isinstance(self.autoencoder, TokenAutoencoder):
            reconstruction = self.autoencoder(images, quantise=quantise, generator=generator)
        else:
            reconstruction = self.autoencoder(images, generator=generator)
        return self.judge(images, reconstruction, step=step)

    def judge(self, images: Images, reconstruction: Reconstruction, *, step: int = 0) -> Autoencoding:
        """Loss of a reconstruction that is already there.

        Source: LDM first stage objective
        """
        fake = reconstruction.images.to(images.dtype)
        terms = self._error(images, fake)
        nll = torch.stack(list(terms.values())).sum(dim=0)
        for name, term in reconstruction.terms.items():
            terms[name] = self.kl_weight * term if name == "kl" else term
        if self.adversary is not None:
            terms["adversarial"] = self._adversarial(self.adversary, fake, nll, step)
        return Autoencoding(torch.stack(list(terms.values())).sum(dim=0), reconstruction, terms)

    def discriminator_loss(self, images: Images, reconstruction: Images, *, step: int) -> PerExample:
        """Loss of the adversary per example; 0 before `adversarial_start`. The reconstruction gets no gradient.

        Raises:
            ValueError: the objective has no adversary.

        Source: VQGAN adversarial loss
        """
        if self.adversary is None:
            raise ValueError("this objective has no adversary; pass adversary=PatchGAN()")
        real, fake = (self.adversary(x.detach()).float() for x in (images, reconstruction.to(images.dtype)))
        return self.adversarial_loss(real, fake) * float(step >= self.adversarial_start)

    def _error(self, images: Images, fake: Images) -> dict[str, PerExample]:
        precision = math.exp(-self.log_variance)
        terms = {"reconstruction": self.reduction(precision * self.distance(images, fake) + self.log_variance)}
        if self.perceptual is not None:
            perceived = precision * self.perceptual_weight * self.perceptual(images, fake)
            terms["perceptual"] = self.reduction(perceived[:, None, None, None].expand_as(images))
        return terms

    def _adversarial(self, adversary: PatchGAN, fake: Images, nll: PerExample, step: int) -> PerExample:
        last_layer = self.autoencoder.decoder.conv_out.weight
        if step < self.adversarial_start:
            return torch.zeros_like(nll)
        frozen = {name: parameter.detach() for name, parameter in adversary.named_parameters()}
        logits: Tensor = functional_call(adversary, frozen, (fake,))
        loss = -logits.float().mean(dim=(1, 2, 3))
        if not (torch.is_grad_enabled() and loss.requires_grad):
            return torch.zeros_like(nll)
        return self.adversarial_weight * adaptive_weight(nll.mean(), loss.mean(), last_layer) * loss

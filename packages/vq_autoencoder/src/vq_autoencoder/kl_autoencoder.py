"""The autoencoder with a Gaussian bottleneck: images to latents and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from ._types import Grid, Images
from .layout import Layout
from .networks import Decoder, Encoder
from .posterior import DiagonalGaussian
from .pretrained import Pretrained
from .results import Latents, Reconstruction


class KLAutoencoder(nn.Module, Pretrained):
    """Autoencoder with a Gaussian bottleneck: the KL-regularised first stage of LDM.

    Buffers `latent_shift` and `latent_scale`, per channel, are 0 and 1 until `fit_scale`; `encode` and `decode` alone
    apply them.

    Args:
        latent_channels: channels of the latents.
        bottleneck_channels: channels between the networks and the 1x1 convolutions (`z_channels`); `latent_channels`
            when None.
        others: see `Layout`.

    Source: LDM KL regularisation
    """

    latent_shift: Tensor
    latent_scale: Tensor

    def __init__(
        self,
        *,
        latent_channels: int = 4,
        bottleneck_channels: int | None = None,
        image_channels: int = 3,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 2, 4, 4),
        residual_blocks: int = 2,
        decoder_blocks: int | None = None,
        attention_resolutions: Sequence[int] = (),
        resolution: int = 256,
        mid_blocks: int = 2,
        mid_attention: bool = True,
        patch: int = 1,
        subpixel: bool = False,
        groups: int = 32,
    ) -> None:
        super().__init__()
        self.layout = Layout(
            image_channels=image_channels,
            channels=channels,
            multipliers=tuple(multipliers),
            residual_blocks=residual_blocks,
            decoder_blocks=decoder_blocks,
            attention_resolutions=tuple(attention_resolutions),
            resolution=resolution,
            mid_blocks=mid_blocks,
            mid_attention=mid_attention,
            patch=patch,
            subpixel=subpixel,
            groups=groups,
        )
        between = latent_channels if bottleneck_channels is None else bottleneck_channels
        self.encoder = Encoder(self.layout, 2 * between)
        self.decoder = Decoder(self.layout, between)
        self.quant_conv = nn.Conv2d(2 * between, 2 * latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(latent_channels, between, 1)
        self.register_buffer("latent_shift", torch.zeros(latent_channels))
        self.register_buffer("latent_scale", torch.ones(latent_channels))

    @property
    def factor(self) -> int:
        """Side of an image over the side of its latents."""
        return self.layout.factor

    def posterior(self, images: Images) -> DiagonalGaussian:
        """Distribution of the latents of images in [-1, 1], before shift and scale.

        Raises:
            ValueError: wrong channels, or a size that `factor` does not divide.
        """
        return DiagonalGaussian.from_moments(self.quant_conv(self.encoder(images)))

    def encode(self, images: Images, *, sample: bool = True, generator: torch.Generator | None = None) -> Latents:
        """Latents `(z - shift) * scale`, where z is drawn from the posterior or, without `sample`, is its mean.

        Raises:
            ValueError: wrong channels, or a size that `factor` does not divide.

        Source: LDM latent rescaling
        """
        return self.standardise(self.posterior(images), sample=sample, generator=generator)

    def standardise(
        self, posterior: DiagonalGaussian, *, sample: bool = True, generator: torch.Generator | None = None
    ) -> Latents:
        """Latents of a posterior, as `encode` gives them."""
        z = posterior.sample(generator=generator) if sample else posterior.mean
        values = (z - _per_channel(self.latent_shift)) * _per_channel(self.latent_scale)
        return Latents(values, posterior.mean, posterior.log_variance)

    def decode(self, values: Grid) -> Images:
        """Images of latents as `encode` gives them; they are not clipped to [-1, 1].

        Raises:
            ValueError: wrong channels.
        """
        if values.shape[1] != len(self.latent_scale):
            raise ValueError(f"latents must have {len(self.latent_scale)} channels, got shape {tuple(values.shape)}")
        z = values / _per_channel(self.latent_scale) + _per_channel(self.latent_shift)
        images: Tensor = self.decoder(self.post_quant_conv(z))
        return images

    def forward(self, images: Images, *, generator: torch.Generator | None = None) -> Reconstruction:
        """Encode, sample, decode; term "kl" is the posterior's divergence in nats, summed over its elements."""
        latents = self.encode(images, generator=generator)
        kl = DiagonalGaussian(latents.mean, latents.log_variance).kl()
        return Reconstruction(self.decode(latents.values), latents.values, {"kl": kl})

    @torch.no_grad()
    def fit_scale(self, batches: Iterable[Images]) -> None:
        """Set shift and scale so that latents drawn for `batches` have mean 0 and standard deviation 1 per channel.

        Moments are those of the posteriors in closed form, `E[mean]` and `Var[mean] + E[variance]`, so nothing is
        drawn. Where `torch.distributed` is initialised all ranks must call it together, each with a share of the
        images (or none): the moments are those of all of them.

        Raises:
            ValueError: there are no images on any rank.

        Source: LDM latent rescaling
        Deviation: LDM uses one scalar, 1 over the standard deviation of the first batch (`fit_scalar_scale`); here
            there is one shift and one scale per channel, over all batches [KLAutoencoder.fit_scalar_scale].
        """
        sums = torch.zeros(3, len(self.latent_scale), dtype=torch.float64, device=self.latent_scale.device)
        for images in batches:
            posterior = self.posterior(images)
            mean, variance = posterior.mean.double(), posterior.log_variance.double().exp()
            second = mean.square() + variance
            sums += torch.stack([values.sum(dim=(0, 2, 3)) for values in (torch.ones_like(mean), mean, second)])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        count, first, second = sums
        if not count.all():
            raise ValueError("batches holds no images; give at least one batch (an iterator may be used up)")
        shift = first / count
        self._set_scale(shift, (second / count - shift.square()).rsqrt())

    @torch.no_grad()
    def fit_scalar_scale(self, images: Images, *, generator: torch.Generator | None = None) -> None:
        """Set all scales to 1 over the standard deviation of the latents drawn for one batch, and the shifts to 0.

        Source: LDM latent rescaling
        """
        scale = 1 / self.posterior(images).sample(generator=generator).std()
        self._set_scale(torch.zeros_like(self.latent_shift), scale.expand_as(self.latent_scale))

    def _set_scale(self, shift: Float[Tensor, " d"], scale: Float[Tensor, " d"]) -> None:
        self.latent_shift.copy_(shift)
        self.latent_scale.copy_(scale)


def _per_channel(values: Float[Tensor, " d"]) -> Float[Tensor, "d 1 1"]:
    return values[:, None, None]

"""The autoencoders with tokens: images to codes and back, one class for each bottleneck."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor, nn

from ._types import Codebook, Grid, Images, TokenGrid
from .codes import Quantizer
from .gumbel import GumbelQuantizer
from .lattice import FiniteScalarQuantizer, LookupFreeQuantizer
from .layout import Layout
from .networks import Decoder, Encoder
from .pretrained import Pretrained
from .quantizer import VectorQuantizer
from .results import Reconstruction, Tokens


class LayoutOptions(TypedDict, total=False):
    """The fields of `Layout`, as keyword arguments of an autoencoder."""

    image_channels: int
    channels: int
    multipliers: Sequence[int]
    residual_blocks: int
    decoder_blocks: int | None
    attention_resolutions: Sequence[int]
    resolution: int
    mid_blocks: int
    mid_attention: bool
    patch: int
    subpixel: bool
    groups: int


class TokenAutoencoder(nn.Module):
    """Encoder, bottleneck with codes, decoder: what all autoencoders with tokens share.

    Args:
        options: layout of the two networks.
        quantizer: makes the bottleneck.
        width: of its codes.
        bottleneck_channels: channels between the networks and the 1x1 convolutions (`z_channels`); `width` when None.

    Source: VQGAN quantisation
    """

    quantizer: Quantizer

    def __init__(
        self,
        options: LayoutOptions,
        quantizer: Callable[[], Quantizer],
        *,
        width: int,
        bottleneck_channels: int | None = None,
    ) -> None:
        super().__init__()
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}
        self.layout = Layout(**fields)
        between = width if bottleneck_channels is None else bottleneck_channels
        self.encoder = Encoder(self.layout, between)
        self.decoder = Decoder(self.layout, between)
        self.quantizer = quantizer()
        self.quant_conv = nn.Conv2d(between, width, 1)
        self.post_quant_conv = nn.Conv2d(width, between, 1)

    @property
    def factor(self) -> int:
        """Side of an image over the side of its grid of tokens."""
        return self.layout.factor

    @property
    def codebook(self) -> Codebook:
        """The codes, (k, d)."""
        return self.quantizer.codes

    def encode(self, images: Images) -> Tokens:
        """Tokens of images in [-1, 1]; height and width are multiples of `factor`.

        Raises:
            ValueError: wrong channels, or a size that `factor` does not divide.
        """
        return self.quantise(self.latents(images))

    def latents(self, images: Images) -> Grid:
        """Latents (b, d, h, w) of images in [-1, 1], before quantisation.

        Raises:
            ValueError: wrong channels, or a size that `factor` does not divide.
        """
        latents: Tensor = self.quant_conv(self.encoder(images))
        return latents.to(torch.promote_types(latents.dtype, torch.float32))

    def quantise(self, latents: Grid) -> Tokens:
        """Nearest tokens of latents (b, d, h, w), for instance of those that a latent diffusion model drew.

        Raises:
            ValueError: the channels are not the width of a code.
        """
        if latents.shape[1] != self.quantizer.width:
            raise ValueError(f"latents must have {self.quantizer.width} channels, got shape {tuple(latents.shape)}")
        indices = self.quantizer.nearest(latents)
        return Tokens(indices, self.quantizer.lookup(indices), latents)

    def decode(self, indices: TokenGrid) -> Images:
        """Images of tokens; they are not clipped to [-1, 1].

        Raises:
            ValueError: a token lies outside 0..k-1.
        """
        return self.decode_vectors(self.quantizer.lookup(indices))

    def decode_latents(self, latents: Grid) -> Images:
        """Images of latents before quantisation, as a latent diffusion model has them: quantise, then decode.

        Raises:
            ValueError: the channels are not the width of a code.

        Source: LDM VQ regularisation
        """
        return self.decode_vectors(self.quantise(latents).vectors)

    def decode_vectors(self, vectors: Grid) -> Images:
        """Images of vectors (b, d, h, w), taken as they are; see `quantise` to move them to codes first."""
        images: Tensor = self.decoder(self.post_quant_conv(vectors))
        return images

    def forward(
        self, images: Images, *, quantise: bool = True, generator: torch.Generator | None = None
    ) -> Reconstruction:
        """Encode, quantise with straight-through gradients, decode; the generator draws what the bottleneck draws.

        Raises:
            ValueError: wrong channels, or a size that `factor` does not divide.
        """
        latents = self.latents(images)
        if not quantise:
            return Reconstruction(self.decode_vectors(latents), latents, {})
        quantised = self.quantizer(latents, generator=generator)
        return Reconstruction(self.decode_vectors(quantised.vectors), latents, quantised.terms, quantised.indices)


class VQAutoencoder(TokenAutoencoder, Pretrained):
    """Autoencoder with a codebook: VQGAN, and the VQ-regularised first stage of LDM.

    Args:
        codes: entries of the codebook, k.
        code_width: entries of a code, d.
        bottleneck_channels: channels between the networks and the 1x1 convolutions (`z_channels`); `code_width` when
            None.
        codebook_weight, commitment_weight, ema_decay, revival_threshold, cosine: see `VectorQuantizer`.
        layout: see `Layout`.

    Source: VQGAN quantisation
    Source: LDM VQ regularisation
    """

    quantizer: VectorQuantizer

    def __init__(
        self,
        *,
        codes: int,
        code_width: int,
        bottleneck_channels: int | None = None,
        codebook_weight: float = 1.0,
        commitment_weight: float = 0.25,
        ema_decay: float | None = None,
        revival_threshold: float = 0.0,
        cosine: bool = False,
        **layout: Unpack[LayoutOptions],
    ) -> None:
        quantizer = partial(
            VectorQuantizer,
            codes=codes,
            width=code_width,
            codebook_weight=codebook_weight,
            commitment_weight=commitment_weight,
            ema_decay=ema_decay,
            revival_threshold=revival_threshold,
            cosine=cosine,
        )
        super().__init__(layout, quantizer, width=code_width, bottleneck_channels=bottleneck_channels)

    @classmethod
    def legacy(cls, *, beta: float = 0.25, **arguments: Any) -> VQAutoencoder:  # noqa: ANN401
        """An autoencoder with the released code's weights: `beta` on the codebook term and 1 on the commitment term."""
        return cls(codebook_weight=beta, commitment_weight=1.0, **arguments)

    def initialise_codebook(self, latents: Grid, *, generator: torch.Generator | None = None) -> None:
        """Set the codes to latents (b, d, h, w) drawn at random, as after a start without quantisation."""
        self.quantizer.initialise(latents, generator=generator)


class GumbelAutoencoder(TokenAutoencoder, Pretrained):
    """Autoencoder whose codes are drawn by the Gumbel trick: the codec of VQ-Diffusion on MS-COCO.

    Args:
        codes, code_width, bottleneck_channels: as in `VQAutoencoder`.
        temperature, prior_weight, straight_through: see `GumbelQuantizer`.
        layout: see `Layout`.

    Source: Gumbel-softmax straight-through estimator
    """

    quantizer: GumbelQuantizer

    def __init__(
        self,
        *,
        codes: int,
        code_width: int,
        bottleneck_channels: int | None = None,
        temperature: float = 1.0,
        prior_weight: float = 5e-4,
        straight_through: bool = True,
        **layout: Unpack[LayoutOptions],
    ) -> None:
        quantizer = partial(
            GumbelQuantizer,
            codes=codes,
            width=code_width,
            temperature=temperature,
            prior_weight=prior_weight,
            straight_through=straight_through,
        )
        super().__init__(layout, quantizer, width=code_width, bottleneck_channels=bottleneck_channels)


class FSQAutoencoder(TokenAutoencoder, Pretrained):
    """Autoencoder with finite scalar quantisation.

    Args:
        levels: values of each channel; the codebook has their product of codes.
        bottleneck_channels: as in `VQAutoencoder`.
        layout: see `Layout`.

    Source: FSQ quantisation
    """

    quantizer: FiniteScalarQuantizer

    def __init__(
        self, *, levels: Sequence[int], bottleneck_channels: int | None = None, **layout: Unpack[LayoutOptions]
    ) -> None:
        quantizer = partial(FiniteScalarQuantizer, levels=levels)
        super().__init__(layout, quantizer, width=len(levels), bottleneck_channels=bottleneck_channels)


class LFQAutoencoder(TokenAutoencoder, Pretrained):
    """Autoencoder with look-up free quantisation.

    Args:
        bits: channels of the latents; the codebook has 2^bits codes.
        bottleneck_channels: as in `VQAutoencoder`.
        commitment_weight, entropy_weight, diversity, temperature: see `LookupFreeQuantizer`.
        layout: see `Layout`.

    Source: MAGVIT-v2 look-up free quantisation
    """

    quantizer: LookupFreeQuantizer

    def __init__(
        self,
        *,
        bits: int,
        bottleneck_channels: int | None = None,
        commitment_weight: float = 0.25,
        entropy_weight: float = 0.1,
        diversity: float = 1.0,
        temperature: float = 1.0,
        **layout: Unpack[LayoutOptions],
    ) -> None:
        quantizer = partial(
            LookupFreeQuantizer,
            bits=bits,
            commitment_weight=commitment_weight,
            entropy_weight=entropy_weight,
            diversity=diversity,
            temperature=temperature,
        )
        super().__init__(layout, quantizer, width=bits, bottleneck_channels=bottleneck_channels)

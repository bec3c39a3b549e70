"""The published first stages by name, and small ones for 32, 64 and 128 pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .autoencoder import FSQAutoencoder, GumbelAutoencoder, LFQAutoencoder, TokenAutoencoder, VQAutoencoder
from .discriminator import PatchGAN
from .kl_autoencoder import KLAutoencoder

Autoencoder: TypeAlias = TokenAutoencoder | KLAutoencoder


@dataclass(frozen=True, kw_only=True)
class Preset:
    """An autoencoder and how it was trained.

    kind: its class; arguments: of its constructor; batch: images a step; adversarial_start: step from which the
    discriminator takes part (None: never); adversarial_weight, adversary_layers: of the discriminator.
    """

    name: str
    kind: type[Autoencoder]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    batch: int
    adversarial_start: int | None = None
    adversarial_weight: float = 0.75
    adversary_layers: int = 3

    def build(self) -> Autoencoder:
        """A fresh autoencoder; under `torch.device("meta")` one without memory."""
        return self.kind(**self.arguments)

    def adversary(self) -> PatchGAN:
        """A fresh discriminator."""
        return PatchGAN(layers=self.adversary_layers)

    @property
    def resolution(self) -> int:
        """Side of the images that it was made for."""
        return int(self.arguments["resolution"])


def _published(*multipliers: int, attention: tuple[int, ...] = (), **rest: Any) -> dict[str, Any]:  # noqa: ANN401
    """The networks of the papers: 128 channels, two residual blocks, 256 pixels."""
    return {
        "channels": 128,
        "multipliers": multipliers,
        "residual_blocks": 2,
        "attention_resolutions": attention,
        "resolution": 256,
        **rest,
    }


def _ldm() -> tuple[Preset, ...]:
    """The first stages of LDM.

    Source: LDM first stages
    Deviation: the released VQ models were trained with the two weights of the codebook's terms exchanged
        (`VQAutoencoder.legacy`); a fresh one of these has them as the paper says [VQAutoencoder.legacy].
    """
    return (
        _vq("vq-f4", _published(1, 2, 4), 8192, 3, batch=8, start=0),
        _vq("vq-f4-noattn", _published(1, 2, 4, mid_attention=False), 8192, 3, batch=8, start=11),
        _vq("vq-f8", _published(1, 2, 2, 4, attention=(32,)), 16384, 4, batch=10, start=1, weight=0.6, layers=2),
        _vq("vq-f8-n256", _published(1, 2, 2, 4, attention=(32,)), 256, 4, batch=10, start=250_001),
        _vq("vq-f16", _published(1, 1, 2, 2, 4, attention=(16,)), 16384, 8, batch=14, start=250_001, layers=2),
        _kl("kl-f4", _published(1, 2, 4), 3, batch=10),
        _kl("kl-f8", _published(1, 2, 4, 4), 4, batch=4),
        _kl("kl-f16", _published(1, 1, 2, 2, 4, attention=(16,)), 16, batch=6),
        _kl("kl-f32", _published(1, 1, 2, 2, 4, 4, attention=(16, 8)), 64, batch=6),
    )


def _taming() -> tuple[Preset, ...]:
    """The VQGANs of taming-transformers that VQ-Diffusion and ImageBART stand on.

    Source: VQGAN quantisation
    Source: VQ-Diffusion tokeniser
    Unstated: batch and adversary of the Gumbel VQGAN; a batch of 8, the adversary of the other ImageNet VQGAN [fixed].
    """
    f16 = _published(1, 1, 2, 2, 4, attention=(16,))
    gumbel = _published(1, 1, 2, 4, attention=(32,))
    return (
        _vq("taming-f16-1024", f16, 1024, 256, batch=12, start=30_001, weight=0.8),
        _vq("taming-f16-16384", f16, 16384, 256, batch=12, start=10_000, weight=0.8),
        Preset(
            name="gumbel-f8-8192",
            kind=GumbelAutoencoder,
            arguments={"codes": 8192, "code_width": 256, **gumbel},
            batch=8,
            adversarial_start=10_000,
            adversarial_weight=0.8,
        ),
    )


def _vq(
    name: str,
    network: Mapping[str, Any],
    codes: int,
    width: int,
    *,
    batch: int,
    start: int,
    weight: float = 0.75,
    layers: int = 3,
) -> Preset:
    return Preset(
        name=name,
        kind=VQAutoencoder,
        arguments={"codes": codes, "code_width": width, **network},
        batch=batch,
        adversarial_start=start,
        adversarial_weight=weight,
        adversary_layers=layers,
    )


def _kl(name: str, network: Mapping[str, Any], width: int, *, batch: int) -> Preset:
    return Preset(
        name=name,
        kind=KLAutoencoder,
        arguments={"latent_channels": width, **network},
        batch=batch,
        adversarial_start=50_001,
        adversarial_weight=0.5,
    )


def _small() -> tuple[Preset, ...]:
    """Minutes on a processor: one strided convolution to a quarter of the side, a block or two, and back.

    Unstated: models for small machines; everything: 256 codes, or 512 and 1024 for larger
        images, which follow moving averages and are revived [Layout].
    """
    presets: list[Preset] = []
    for factor, resolution, codes in ((4, 32, 256), (4, 64, 512), (8, 64, 1024), (8, 128, 1024)):
        network = {
            "channels": 96,
            "multipliers": (1,) if factor == 4 else (1, 2),
            "residual_blocks": 1,
            "decoder_blocks": 1,
            "mid_blocks": 0,
            "patch": 4,
            "groups": 8,
            "resolution": resolution,
        }
        followed = {"code_width": 8, "ema_decay": 0.98, "revival_threshold": 0.3}
        kinds: dict[str, tuple[type[Autoencoder], dict[str, Any]]] = {
            "vq": (VQAutoencoder, {"codes": codes, **followed}),
            "kl": (KLAutoencoder, {"latent_channels": 4}),
        }
        if resolution == 32:
            kinds["vq-gradient"] = (VQAutoencoder, {"codes": codes, "code_width": 8})
            kinds["vq-ema"] = (VQAutoencoder, {"codes": codes, "code_width": 8, "ema_decay": 0.98})
            kinds["vq-cosine"] = (VQAutoencoder, {"codes": codes, **followed, "cosine": True})
            kinds["gumbel"] = (GumbelAutoencoder, {"codes": codes, "code_width": 8})
            kinds["fsq"] = (FSQAutoencoder, {"levels": (8, 8, 4)})
            kinds["lfq"] = (LFQAutoencoder, {"bits": 8})
        presets += [
            Preset(name=f"{name}-f{factor}-{resolution}", kind=kind, arguments={**network, **own}, batch=32)
            for name, (kind, own) in kinds.items()
        ]
    return tuple(presets)


PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in (*_ldm(), *_taming(), *_small())}

"""The published chains of scales by name, and small ones for 8 x 8 tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from discrete_diffusion.imagebart.model import ImageBART
from discrete_diffusion.imagebart.schedule import FFHQ_KEEP, IMAGENET_KEEP


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A chain of scales and how it was trained.

    Attributes:
        name: of the preset.
        keep: `abar_0 .. abar_n`.
        encoder_decoder: arguments of the networks of scales 1 .. n - 1, all alike; None where there is one scale.
        decoder_only: arguments of the last scale's network.
        sampled: weight of the sampled cross-entropy at each scale, see `ScaleObjective`.
        batch: images a step, all accumulated ones together.
        steps: until the learning rate ends its cosine, for each scale.
        learning_rate: at its peak.
        warmup: steps from 2.5e-6 to there.
        betas: of AdamW.
        weight_decay: of AdamW.
    """

    name: str
    keep: Sequence[float]
    encoder_decoder: Mapping[str, Any] | None
    decoder_only: Mapping[str, Any]
    sampled: Sequence[float]
    batch: int
    steps: int
    learning_rate: float = 1e-4
    warmup: int = 10_000
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01

    @property
    def scales(self) -> int:
        """Number of scales, n."""
        return len(self.keep) - 1

    def build(self) -> ImageBART:
        """Fresh networks; under `torch.device("meta")` ones without memory."""
        arguments = [] if self.encoder_decoder is None else [self.encoder_decoder] * (self.scales - 1)
        return ImageBART(keep=self.keep, encoder_decoders=arguments, decoder_only=self.decoder_only)


def _published(
    name: str,
    keep: Sequence[float],
    codes: int,
    *,
    steps: int,
    batch: int = 32,
    width: int = 1152,
    encoder_depth: int = 32,
    last: tuple[int, int] = (1216, 36),
    classes: int | None = None,
    residual: bool = False,
    first_sampled: int = 1,
) -> Preset:
    """16 x 16 tokens, 16 heads of 64, a decoder of 6 layers; some scales on sampled tokens, the rest in closed form.

    Source: ImageBART scales and training
    """
    scales = len(keep) - 1
    size: dict[str, Any] = {"codes": codes, "grid": (16, 16), "heads": 16}
    if classes is not None:
        size |= {"prefix": 1, "vocabulary": max(classes, codes)}
    encoder_decoder = {**size, "width": width, "encoder_depth": encoder_depth, "decoder_depth": 6}
    if residual:
        encoder_decoder["keep"] = tuple(keep)
    decoder_only = {**size, "width": last[0], "depth": last[1]}
    if classes is not None:
        decoder_only["unmasked"] = 2
    return Preset(
        name=name,
        keep=tuple(keep),
        encoder_decoder=encoder_decoder,
        decoder_only=decoder_only,
        sampled=(1.0,) * first_sampled + (0.0,) * (scales - first_sampled),
        batch=batch,
        steps=steps,
    )


def _small(scales: int, encoder_decoder: Mapping[str, Any] | None, width: int, depth: int) -> Preset:
    """8 x 8 tokens of 256 codes, ten classes with embeddings of their own; as many parameters whatever the scales.

    Unstated: models for small machines; everything: sizes for minutes on a processor [Chain].
    """
    size: dict[str, Any] = {"codes": 256, "grid": (8, 8), "heads": 4, "prefix": 1, "prefix_offset": 256}
    size["vocabulary"] = 256 + 10
    return Preset(
        name=f"small-{scales}",
        keep=tuple(1 - t / scales for t in range(scales + 1)),
        encoder_decoder=None if encoder_decoder is None else {**size, "head_width": 32, **encoder_decoder},
        decoder_only={**size, "width": width, "depth": depth},
        sampled=(0.0,) * scales,
        batch=64,
        steps=3000,
        learning_rate=1e-3,
        warmup=100,
    )


_GEOMETRIC_4 = (1.0, 0.75, 0.5, 0.25, 0.0)
_ALL = (
    _published(
        "ffhq-4",
        _GEOMETRIC_4,
        548,
        steps=1_500_000,
        batch=16,
        width=752,
        encoder_depth=18,
        last=(800, 26),
        residual=True,
        first_sampled=3,
    ),
    _published("ffhq-2", FFHQ_KEEP[2], 548, steps=1_500_000, batch=18),
    _published("churches-3", IMAGENET_KEEP[3], 1022, steps=1_300_000),
    _published("bedrooms-3", IMAGENET_KEEP[3], 1017, steps=5_000_000),
    _published("cats-3", IMAGENET_KEEP[3], 1014, steps=5_000_000),
    _published("imagenet-4", _GEOMETRIC_4, 973, steps=10_000_000, classes=1000, residual=True),
    _published("imagenet-5", IMAGENET_KEEP[5], 973, steps=10_000_000, classes=1000),
    _small(1, None, 160, 5),
    _small(2, {"width": 110, "encoder_depth": 3, "decoder_depth": 1}, 128, 4),
    _small(3, {"width": 96, "encoder_depth": 2, "decoder_depth": 1}, 108, 4),
)
PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in _ALL}

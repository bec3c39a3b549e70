"""The published denoisers by name, with what they were trained on and how."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from continuous_diffusion.dit import DiT
from continuous_diffusion.objective import absolute, squared
from continuous_diffusion.schedule import Betas
from continuous_diffusion.unet import UNet


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A denoiser and how it was trained.

    kind: its class; arguments: of its constructor; shape (c, h, w): of the states that it was trained on;
    first_stage: the autoencoder they came from, None for pixels; betas: the two ends of its noise schedule, linear in
    the root (LDM) or linear (ADM, DiT); distance: of its objective; batch, learning_rate: where they are published.
    """

    name: str
    kind: type[UNet] | type[DiT]
    arguments: Mapping[str, Any]
    shape: tuple[int, int, int]
    first_stage: str | None = None
    betas: tuple[float, float] = Betas.FACES.value
    distance: Callable[[Tensor, Tensor], Tensor] = squared
    batch: int | None = None
    learning_rate: float | None = None

    def build(self) -> UNet | DiT:
        """A fresh denoiser; under `torch.device("meta")` one without memory."""
        return self.kind(**self.arguments)


def _ldm(
    name: str,
    channels: int,
    multipliers: tuple[int, ...],
    attention_at: tuple[int, ...],
    *,
    shape: tuple[int, int, int],
    first_stage: str,
    betas: Betas = Betas.FACES,
    distance: Callable[[Tensor, Tensor], Tensor] = squared,
    batch: int | None = None,
    learning_rate: float | None = None,
    beside: int = 0,
    **rest: Any,  # noqa: ANN401
) -> Preset:
    """One of LDM's U-Nets: two residual blocks a level, `beside` channels put beside those of the latent."""
    arguments: dict[str, Any] = {
        "in_channels": shape[0] + beside,
        "out_channels": shape[0],
        "channels": channels,
        "multipliers": multipliers,
        "residual_blocks": 2,
        "attention_at": attention_at,
        **rest,
    }
    if "condition_width" in rest:
        arguments["null_states"] = 0
    return Preset(
        name=name,
        kind=UNet,
        arguments=arguments,
        shape=shape,
        first_stage=first_stage,
        betas=betas.value,
        distance=distance,
        batch=batch,
        learning_rate=learning_rate,
    )


def _unconditional() -> tuple[Preset, ...]:
    """Faces and bedrooms share one network; churches have their own.

    Source: LDM U-Net
    """
    faces = ((1, 2, 3, 4), (8, 4, 2))
    vq: dict[str, Any] = {"shape": (3, 64, 64), "first_stage": "vq-f4", "head_channels": 32}
    return (
        _ldm("celebahq", 224, *faces, batch=48, learning_rate=9.6e-5, **vq),
        _ldm("ffhq", 224, *faces, batch=42, learning_rate=8.4e-5, **vq),
        _ldm("bedrooms", 224, *faces, batch=48, learning_rate=9.6e-5, **vq),
        _ldm(
            "churches",
            192,
            (1, 2, 2, 4, 4),
            (1, 2, 4, 8),
            shape=(4, 32, 32),
            first_stage="kl-f8",
            betas=Betas.CHURCHES,
            distance=absolute,
            batch=96,
            learning_rate=5e-5,
            heads=8,
            scale_shift=True,
            resample_by_blocks=True,
        ),
    )


def _by_states() -> tuple[Preset, ...]:
    """Classes, captions and layouts, read by cross-attention.

    Source: LDM cross-attention
    Unstated: heads of the class-conditional LDM-4; 1, as in the released file [UNet.heads].
    """
    vq: dict[str, Any] = {"shape": (3, 64, 64), "first_stage": "vq-f4"}
    wide, low = (1, 2, 3, 5), (8, 4, 2)
    f8: dict[str, Any] = {"shape": (4, 32, 32), "first_stage": "vq-f8", "head_channels": 32, "condition_width": 512}
    text: dict[str, Any] = {
        "shape": (4, 32, 32),
        "first_stage": "kl-f8",
        "betas": Betas.TEXT,
        "heads": 8,
        "condition_width": 1280,
    }
    layout: dict[str, Any] = {"betas": Betas.INPAINTING, "distance": absolute, "batch": 24, "learning_rate": 4.8e-5}
    return (
        _ldm("imagenet-f8", 256, (1, 2, 4), (4, 2, 1), batch=64, learning_rate=6.4e-5, **f8),
        _ldm("imagenet", 192, wide, low, heads=1, condition_width=512, batch=1200, learning_rate=1e-4, **vq),
        _ldm("text-f4", 192, wide, low, head_channels=32, condition_width=640, batch=680, learning_rate=1e-4, **vq),
        _ldm("text", 320, (1, 2, 4, 4), (4, 2, 1), batch=680, learning_rate=1e-4, **text),
        _ldm(
            "layout",
            128,
            (1, 2, 3, 4),
            low,
            head_channels=32,
            condition_width=512,
            transformer_depth=3,
            **layout,
            **vq,
        ),
    )


def _by_images() -> tuple[Preset, ...]:
    """Holes, smaller images and semantic maps, put beside the channels of the latent.

    Source: LDM U-Net
    Deviation: the semantic model is the released one at a quarter of the side; the paper's has an eighth [fixed].
    """
    return (
        _ldm(
            "inpainting",
            256,
            (1, 2, 3, 4),
            (8, 4, 2),
            shape=(3, 64, 64),
            first_stage="vq-f4-noattn",
            betas=Betas.INPAINTING,
            distance=absolute,
            batch=128,
            learning_rate=1e-6,
            beside=4,
            heads=8,
            resample_by_blocks=True,
        ),
        _ldm(
            "super-resolution",
            160,
            (1, 2, 2, 4),
            (16, 8),
            shape=(3, 64, 64),
            first_stage="vq-f4",
            betas=Betas.CHURCHES,
            batch=64,
            learning_rate=6.4e-5,
            beside=3,
            head_channels=32,
        ),
        _ldm(
            "semantic",
            128,
            (1, 4, 8),
            (32, 16, 8),
            shape=(3, 128, 128),
            first_stage="vq-f4",
            betas=Betas.INPAINTING,
            distance=absolute,
            batch=48,
            learning_rate=4.8e-5,
            beside=3,
            heads=8,
        ),
    )


def _adm(name: str, side: int, **rest: Any) -> Preset:  # noqa: ANN401
    """One of ADM's U-Nets over pixels, which learn their variance."""
    arguments: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 3,
        "head_channels": 64,
        "scale_shift": True,
        "resample_by_blocks": True,
        "learned_variance": True,
        "null_class": False,
        **rest,
    }
    return Preset(name=name, kind=UNet, arguments=arguments, shape=(3, side, side), betas=(1e-4, 0.02))


def _pixels() -> tuple[Preset, ...]:
    """ADM, which RePaint stands on: its ImageNet model knows classes, that of faces does not.

    Source: ADM U-Net
    """
    small: dict[str, Any] = {
        "channels": 192,
        "multipliers": (1, 2, 3, 4),
        "residual_blocks": 3,
        "attention_at": (2, 4, 8),
    }
    large: dict[str, Any] = {
        "channels": 256,
        "multipliers": (1, 1, 2, 2, 4, 4),
        "residual_blocks": 2,
        "attention_at": (8, 16, 32),
    }
    return (
        _adm("adm-64", 64, classes=1000, **small),
        _adm("adm-256", 256, classes=1000, **large),
        _adm("adm-256-unconditional", 256, **large),
    )


def _transformers() -> tuple[Preset, ...]:
    """DiT for 256 pixels.

    Source: DiT model sizes
    """
    sizes = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16), "xl": (1152, 28, 16)}
    return tuple(
        Preset(
            name=f"dit-{size}-{patch}",
            kind=DiT,
            arguments={
                "in_channels": 4,
                "out_channels": 4,
                "grid": (32, 32),
                "patch": patch,
                "width": width,
                "depth": depth,
                "heads": heads,
                "classes": 1000,
                "learned_variance": True,
            },
            shape=(4, 32, 32),
            first_stage="kl-f8",
            betas=(1e-4, 0.02),
            batch=256,
            learning_rate=1e-4,
        )
        for size, (width, depth, heads) in sizes.items()
        for patch in (2, 4, 8)
    )


PRESETS: Mapping[str, Preset] = {
    preset.name: preset for preset in (*_unconditional(), *_by_states(), *_by_images(), *_pixels(), *_transformers())
}

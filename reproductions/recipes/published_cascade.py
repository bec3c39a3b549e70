"""The cascade of ConPreDiff_con: pixels drawn at 64, enlarged to 256."""

from typing import Any

from reproductions.loop.steps import TrainingSettings
from reproductions.settings import Captions, Cascade, Continuous, GaussianNoise, Solver, Target

BATCH = 1024


def imagen(captions: Captions) -> Cascade:
    """Denoisers of Imagen's kind, trained as ConPreDiff trains on texts.

    captions: of the frozen encoder that reads them for both; the training is batches of 1024 at a rate of 1e-4.

    Source: Imagen cascade
    Unstated: sizes, iterations and the sampler of ConPreDiff's cascade. Widths, depths and attention are Imagen's, but
        for four blocks at every level of the larger model, where that has 2, 4, 8 and 8; 2.5 million steps, as
        Imagen's; 256 steps of DDPM, guided by 1.35. Small pictures are noised to a tenth of the steps before they are
        enlarged.
    Deviation: one frozen encoder reads captions, where the paper has T5 and CLIP side by side; clean estimates are
        clipped to [-1, 1], where Imagen clips them to a quantile (`DynamicThreshold`); pictures end at 256 pixels, at
        which Table 1 is, not at 1024.
    """
    base = {"channels": 512, "multipliers": (1, 2, 3, 4), "residual_blocks": 3, "attention_at": (2, 4, 8), "heads": 8}
    larger = {"channels": 128, "multipliers": (1, 2, 4, 8), "residual_blocks": 4, "attention_at": (8,), "heads": 8}
    return Cascade(
        side=64,
        base=_denoiser(base, captions),
        enlarging=_denoiser(larger, captions),
        augmentation=500,
        level=100,
    )


def _denoiser(network: dict[str, Any], captions: Captions) -> Continuous:
    training = TrainingSettings(
        samples=2_500_000 * BATCH,
        batch=BATCH,
        learning_rate=1e-4,
        betas=(0.9, 0.999),
        weight_decay=0.01,
        warmup=10_000 * BATCH,
        final_fraction=1.0,
        ema=0.9999,
        precision="bf16",
        log_every=100,
    )
    return Continuous(
        network={**network, "scale_shift": True, "resample_by_blocks": True},
        captions=captions,
        levels=1000,
        training=training,
        steps=256,
        guidance=1.35,
        noise=GaussianNoise.COSINE,
        target=Target.VELOCITY,
        clip=1.0,
        solver=Solver.DDPM,
    )

"""Recipes of ImageBART: chains of scales, each scale a network of its own with a training of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from reproductions.choices import chosen
from reproductions.loop.steps import TrainingSettings
from reproductions.profiles import PROFILES, Captions
from reproductions.stages.discrete import SCALE_PRESETS, ScalePreset

SMALL, SMOKE = "small", "smoke"
EMA = 0.999
FIRST_RATE, LAST_RATE = 2.5e-6, 1e-8
FITTED = ("codes", "grid", "prefix", "prefix_offset", "vocabulary", "unmasked")


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The scales of one ImageBART: their networks, and the training that each of them has.

    Every scale sees the same number of pictures. A picture costs a scale about as much as the scale has parameters, so
    that chains whose scales have as many parameters together have the same budget, samples seen times parameters,
    however many scales share it; that is how the small recipes are made.

    keep: `abar_0 .. abar_n`; encoder_decoder: arguments of the networks of the scales 1 .. n - 1 (None: there is one
    scale); decoder_only: those of scale n (None: all scales are trained jointly, as one encoder-decoder); sampled:
    weight of the cross-entropy to tokens drawn, of each scale.
    """

    keep: tuple[float, ...]
    encoder_decoder: Mapping[str, Any] | None
    decoder_only: Mapping[str, Any] | None
    sampled: tuple[float, ...]
    training: TrainingSettings

    @property
    def scales(self) -> int:
        """Number of scales, n."""
        return len(self.keep) - 1

    @property
    def trainings(self) -> tuple[int | None, ...]:
        """The scale of each training; None: all of them."""
        return (None,) if self.decoder_only is None else tuple(range(1, self.scales + 1))

    def arguments(self, scale: int | None) -> Mapping[str, Any]:
        """Arguments of the network of a scale, 1 .. n, or of that of all."""
        found = self.decoder_only if scale == self.scales and self.decoder_only is not None else self.encoder_decoder
        assert found is not None
        return found

    def jointly(self) -> "Chain":
        """The same scales as one network, trained in closed form.

        Raises:
            ValueError: where there is one scale.
        """
        if self.encoder_decoder is None:
            raise ValueError("--jointly: one scale is trained alone; take more with --scales, or leave it out")
        return replace(self, decoder_only=None, sampled=(0.0,) * self.scales)


def preset_of(name: str | None, scales: int | None) -> str:
    """The name of a recipe: as it is given, or the small one of so many scales (2).

    Raises:
        ValueError: where there is no such recipe, or it has another number of scales.
    """
    if name is None or name in (SMALL, SMOKE):
        return f"{name or SMALL}-{scales or 2}"
    own = chosen("--preset", "recipe", name, SCALE_PRESETS).scales
    if scales not in (None, own):
        raise ValueError(f"--scales: the recipe {name} has {own}, not {scales}; leave one out")
    return name


def chain(name: str, *, codes: int, grid: tuple[int, int], classes: int) -> Chain:
    """The recipe called `name` (as `preset_of` says it) for tokens of an autoencoder and a number of classes (0: none).

    The published recipes keep their networks and their trainings, whatever the tokens. Those called `smoke-n` are the
    small ones with networks and trainings of seconds.
    """
    smoke = name.startswith(SMOKE)
    preset = SCALE_PRESETS[name.replace(SMOKE, SMALL)]
    networks = (preset.encoder_decoder, preset.decoder_only)
    first, last = (None if each is None else fitted(each, codes, grid, classes) for each in networks)
    assert last is not None
    if smoke:
        last |= {"width": 16, "depth": 1, "heads": 2}
        if first is not None:
            first |= {"width": 16, "encoder_depth": 1, "heads": 2, "head_width": 8}
    return Chain(
        keep=tuple(preset.keep),
        encoder_decoder=first,
        decoder_only=last,
        sampled=tuple(preset.sampled),
        training=_training(preset, smoke=smoke),
    )


def fitted(arguments: Mapping[str, Any], codes: int, grid: tuple[int, int], classes: int) -> dict[str, Any]:
    """Arguments of a network for other tokens and classes.

    Classes have embeddings of their own, unless the recipe lets them share those of the codes.
    """
    own = {name: value for name, value in arguments.items() if name not in FITTED}
    own |= {"codes": codes, "grid": grid}
    if not classes:
        return own
    shared = bool(arguments.get("prefix")) and not arguments.get("prefix_offset")
    own |= {"prefix": 1, "prefix_offset": 0 if shared else codes}
    own["vocabulary"] = max(codes, classes) if shared else codes + classes
    if "unmasked" in arguments:
        own["unmasked"] = arguments["unmasked"]
    return own


def captions_of(name: str) -> Captions:
    """How many words of captions the recipe called `name` tells apart, and how long captions may be.

    Only these two are read; ImageBART has no encoder of captions.
    """
    return PROFILES["smoke" if name.startswith(SMOKE) else "cpu"].discrete.captions


@dataclass(frozen=True)
class Words:
    """Tokens of captions: how many there are, and how many a caption has, shorter ones being padded."""

    number: int
    length: int


def spoken_to(arguments: Mapping[str, Any], words: Words) -> dict[str, Any]:
    """Arguments of a network that reads captions before its tokens, with embeddings of their own.

    Source: ImageBART conditional prefixes
    Deviation: a text's tokens are byte pairs learnt from the captions, 1024 at most; the paper's are CLIP's, 49408.
    Unstated: whether a text's tokens share the embeddings of the codes, and how many there are; they have their own,
        and are as many as the longest caption has, 32 at most.
    """
    codes = int(arguments["codes"])
    prefix = {"prefix": words.length, "prefix_offset": codes, "vocabulary": codes + words.number}
    return {**arguments, **prefix}


def _training(preset: ScalePreset, *, smoke: bool) -> TrainingSettings:
    """The training of each scale; the published ones rise from one small rate, and end at another.

    Source: ImageBART scales and training
    Unstated: the decay of the averaged weights; 0.999.
    Deviation: the weights decay in all parameters; those of the last scale's released code in its linear ones alone.
    """
    batch, steps = (8, 3) if smoke else (preset.batch, preset.steps)
    published = not preset.name.startswith(SMALL)
    return TrainingSettings(
        samples=batch * steps,
        batch=batch,
        learning_rate=preset.learning_rate,
        betas=preset.betas,
        weight_decay=preset.weight_decay,
        warmup=preset.warmup * batch,
        warmup_from=FIRST_RATE if published else 0.0,
        final_fraction=LAST_RATE / preset.learning_rate if published else 0.0,
        ema=EMA,
        precision="bf16",
        log_every=50,
    )

"""What is trained: autoencoders, caption encoders and denoisers, each with its training and its sampling."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from reproductions.loop.steps import TrainingSettings


@dataclass(frozen=True)
class FirstStage:
    """An autoencoder and its training.

    network: arguments of its constructor; unquantised: samples seen before the codebook is set from the encoder's
    outputs and quantisation begins; adversarial_start: samples after which the discriminator joins (None: never).
    """

    network: Mapping[str, Any]
    training: TrainingSettings
    unquantised: int = 0
    kl_weight: float = 1e-6
    adversarial_start: int | None = None

    @property
    def side(self) -> int:
        """Side of the grid of latents: the resolution over the factor."""
        network = self.network
        return int(network["resolution"] // (network.get("patch", 1) * 2 ** (len(network["multipliers"]) - 1)))


class TextEncoder(StrEnum):
    """What makes states of captions: this project's small one, LDM's, or one that was trained elsewhere."""

    SMALL = "small, trained with the denoiser"
    LDM = "LDM's, trained with the denoiser"
    FROZEN = "frozen"


@dataclass(frozen=True)
class Captions:
    """The caption encoder.

    One that is trained with the denoiser learns a vocabulary of byte pairs too. Of a frozen one, only `length` and
    `width` are read; both are those of the encoder that is given.
    """

    vocabulary: int = 1024
    length: int = 32
    width: int = 128
    depth: int = 1
    heads: int = 4
    encoder: TextEncoder = TextEncoder.SMALL


class TokenNoise(StrEnum):
    """Mask-and-replace schedules: the paper's (0.9 masked, 0.1 replaced at T), the released code's (masks only)."""

    PAPER = "paper"
    RELEASED = "released"


class GaussianNoise(StrEnum):
    """Schedules of Gaussian noise."""

    LDM = "linear in sqrt(beta)"
    COSINE = "cosine"
    LINEAR = "linear in beta"


class Target(StrEnum):
    """What a continuous denoiser predicts."""

    NOISE = "epsilon"
    VELOCITY = "v"


class Distance(StrEnum):
    """How far a prediction is from its target."""

    SQUARED = "squared"
    ABSOLUTE = "absolute"


class Solver(StrEnum):
    """Ways to take a step from noise to pictures."""

    DDIM = "DDIM"
    DDPM = "DDPM"
    PLMS = "PLMS"
    HEUN = "Heun"
    DPM = "DPM-Solver++"


@dataclass(frozen=True, kw_only=True)
class Denoiser:
    """A denoiser, its training and its sampling.

    network: arguments of its constructor; levels: T; steps: of the sampler; guidance: scale (1: none);
    dropout: share of conditions that training replaces by the null condition (0: the denoiser has none).
    """

    network: Mapping[str, Any]
    captions: Captions
    levels: int
    training: TrainingSettings
    steps: int
    guidance: float
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Discrete(Denoiser):
    """A denoiser of tokens; the loss is `vlb_weight * VLB + auxiliary_weight * auxiliary`."""

    noise: TokenNoise = TokenNoise.RELEASED
    vlb_weight: float = 1.0
    auxiliary_weight: float = 5e-4
    truncation: float | None = 0.86


@dataclass(frozen=True, kw_only=True)
class Continuous(Denoiser):
    """A denoiser of latents or pixels.

    betas: first and last of the schedule (None: its own); bound: share of the variational bound in the loss, which is
    what trains a learned variance; clip: bound of the clean estimate in sampling, in standard deviations of the
    latents; solver, eta: of the sampler; class_width: width of the state that stands for a class, read by attention
    (None: classes are added to the time).
    """

    noise: GaussianNoise = GaussianNoise.COSINE
    target: Target = Target.VELOCITY
    clip: float | None = 3.5
    betas: tuple[float, float] | None = None
    distance: Distance = Distance.SQUARED
    bound: float = 0.0
    solver: Solver = Solver.DDIM
    eta: float = 0.0
    class_width: int | None = None


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """Two denoisers of pixels: one draws small pictures, the other enlarges them.

    side: of the small pictures; augmentation: largest step to which training noises these; level: the step to which
    they are noised before they are enlarged (0: not at all).
    """

    side: int
    base: Continuous
    enlarging: Continuous
    augmentation: int
    level: int

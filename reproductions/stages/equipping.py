"""Training denoisers with the context loss beside their own: whatever they draw, everything else is the same."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from reproductions.artefacts import Desk
from reproductions.experiment import AblatedContext, AnyContext, Reading
from reproductions.stages import denoising, latent_denoising, scale_denoising, token_denoising
from reproductions.stages.autoencoding import TokenAutoencoder
from reproductions.stages.coding import Latents, Tokens, load_autoencoder
from reproductions.stages.context import WithContext, last_features
from reproductions.stages.continuous import DiT
from reproductions.stages.continuous import ForwardProcess as GaussianProcess
from reproductions.stages.discrete import ForwardProcess, Multinomial

TRAININGS = token_denoising.Training | latent_denoising.Training | scale_denoising.ScaleTraining


@dataclass(frozen=True)
class Equipped:
    """A training as it is without the context loss, and that loss."""

    training: TRAININGS
    context: AnyContext


class EquippedConditional(denoising.Conditional):
    """A diffusion objective behind what makes its condition, and the context loss beside it.

    of: the clean examples to the grids of vectors whose neighbours are predicted.

    Source: ConPreDiff removal at inference
    """

    def __init__(self, reader: nn.Module, objective: nn.Module, context: WithContext, of: nn.Module) -> None:
        super().__init__(reader, objective)
        self.context, self.of = context, of

    def forward(
        self, clean: Tensor, given: Tensor | None, *, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Mean loss of a batch and its parts, "loss/base" and "loss/context" apart."""
        denoised = self.objective(clean, self.condition(given), generator=generator)
        parts = self.context(denoised, self.of(clean), generator=generator)
        return {**parts, **{name: term.mean() for name, term in denoised.terms.items()}}

    def save(self, desk: Desk) -> None:
        """Write all that was trained beside the denoiser; the context head has a file of its own."""
        super().save(desk)
        save_file(self.context.state_dict(), desk.folder / "context.safetensors")


class CodeVectors(nn.Module):
    """Tokens (b, n) to the code vectors (b, d, h, w) of a frozen autoencoder."""

    codes: Tensor

    def __init__(self, codes: Tensor, grid: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("codes", codes, persistent=False)
        self.grid = grid

    def forward(self, tokens: Tensor) -> Tensor:
        return self.codes[tokens].transpose(1, 2).unflatten(2, self.grid)

    def expected(self, estimate: Tensor) -> Tensor:
        """The mean code vectors (b, d, h, w) of an estimate, the log-probabilities (b, n, k) of tokens."""
        return (estimate.exp().to(self.codes.dtype) @ self.codes).transpose(1, 2).unflatten(2, self.grid)


class Patches(nn.Module):
    """Latents or pixels (b, c, h, w) as the vectors (b, c p p, h / p, w / p) of their patches."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch = patch

    def forward(self, clean: Tensor) -> Tensor:
        return F.pixel_unshuffle(clean, self.patch)

    def expected(self, estimate: Tensor) -> Tensor:
        """The same of an estimate."""
        return self(estimate)


@dataclass(frozen=True)
class Beside:
    """What the context loss needs of a denoiser.

    of: makes its targets of clean examples, and the same of estimates; target: their channels; signal: (T + 1,), how
    much of the picture is left.
    """

    of: CodeVectors | Patches
    target: int
    signal: Tensor


def train_tokens(desk: Desk) -> None:
    """What `token_denoising.train` writes, and `context.safetensors`."""
    _train(desk, token_denoising.train, _beside_tokens)


def train_latents(desk: Desk) -> None:
    """What `latent_denoising.train` writes, and `context.safetensors`."""
    _train(desk, latent_denoising.train, _beside_latents)


def train_scale(desk: Desk) -> None:
    """What `scale_denoising.train_scale` writes, and `context.safetensors`."""
    _train(desk, scale_denoising.train_scale, _beside_tokens)


def prepare(
    desk: Desk, training: token_denoising.Training | latent_denoising.Training, context: AnyContext | None
) -> tuple[denoising.Conditional, denoising.Examples]:
    """What is trained, with the context loss beside it where there is one, and the examples that it learns from."""
    tokens = isinstance(training, token_denoising.Training)
    of, beside = (token_denoising.prepare, _beside_tokens) if tokens else (latent_denoising.prepare, _beside_latents)
    desk = replace(desk, settings=training)
    if context is None:
        return of(desk)
    return of(desk, partial(_equip, desk, Equipped(training, context), beside=beside))


def _train(
    desk: Desk, train: Callable[[Desk, denoising.Build], None], beside: Callable[[Desk, Equipped, nn.Module], Beside]
) -> None:
    equipped: Equipped = desk.settings

    def build(reader: nn.Module, objective: nn.Module) -> EquippedConditional:
        return _equip(desk, equipped, reader, objective, beside)

    train(replace(desk, settings=equipped.training), build)


def _equip(
    desk: Desk,
    equipped: Equipped,
    reader: nn.Module,
    objective: nn.Module,
    beside: Callable[[Desk, Equipped, nn.Module], Beside],
) -> EquippedConditional:
    found, settings = beside(desk, equipped, objective.get_submodule("process")), equipped.context
    width = width_of(equipped.training)
    features, reads = width, last_features
    if isinstance(settings, AblatedContext) and settings.reads is Reading.ESTIMATE:
        features, reads = found.target, partial(_estimate, found.of)
    context = WithContext(
        settings,
        features=features,
        target=found.target,
        signal=found.signal,
        reads=reads,
        width=width if features != width else None,
    )
    return EquippedConditional(reader, objective, context, found.of)


def _estimate(of: CodeVectors | Patches, denoising: Any) -> Tensor:
    return of.expected(denoising.estimate)


def width_of(training: TRAININGS) -> int:
    """Channels of the features that a denoiser hands out, the input of its last layer."""
    if isinstance(training, scale_denoising.ScaleTraining):
        return int(training.chain.arguments(training.scale)["width"])
    network = training.denoiser.network
    return int(network["width"] if "width" in network else network["channels"])


def _beside_tokens(desk: Desk, equipped: Equipped, process: nn.Module) -> Beside:
    """Code vectors of the clean tokens; the signal is the share of tokens that is not masked.

    Unstated: the signal of a scale of ImageBART; the probability that a token of the finer scale, which is predicted,
    is that of the picture.
    """
    codes, grid = _code_vectors(desk)
    if isinstance(process, Multinomial):
        keep = process.schedule.keep
        signal = torch.cat([keep[:1], keep[:-1]])
    else:
        assert isinstance(process, ForwardProcess)
        signal = 1 - process.schedule.mask
    return Beside(CodeVectors(codes, grid), codes.shape[1], signal)


def _code_vectors(desk: Desk) -> tuple[Tensor, tuple[int, int]]:
    autoencoder = load_autoencoder(desk.inputs["autoencoder"])
    assert isinstance(autoencoder, TokenAutoencoder)
    return autoencoder.codebook.detach().cpu().clone(), Tokens(desk.inputs["clean"], torch.device("cpu")).grid


def _beside_latents(desk: Desk, equipped: Equipped, process: nn.Module) -> Beside:
    """Clean latents or pixels, by patches where the denoiser reads patches; the signal is `abar_t`."""
    assert isinstance(process, GaussianProcess)
    training = equipped.training
    assert isinstance(training, latent_denoising.Training)
    patch = int(training.denoiser.network.get("patch", 1)) if latent_denoising.kind_of(training) is DiT else 1
    if "clean" in desk.inputs:
        channels = Latents(desk.inputs["clean"], torch.device("cpu")).shape[0]
    else:
        channels = 3
    return Beside(Patches(patch), channels * patch**2, process.schedule.signal)

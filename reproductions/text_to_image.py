"""What a text-to-image row trains: a caption encoder, a diffusion objective and, in some rows, a context loss."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reproductions import ranks
from reproductions.artefacts import Desk
from reproductions.data import Split
from reproductions.gathering.splits import HELD_OUT
from reproductions.loop.steps import GradientStep
from reproductions.loop.streams import stream
from reproductions.settings import Captions, Denoiser
from reproductions.stages import texts
from reproductions.stages.preparing import CaptionTokens
from reproductions.training import fit

READ = 256
"""Captions that are read at a time."""


class TextToImage(nn.Module):
    """The trained whole; its parts are kept apart, so that the context head is never among what samples.

    Source: ConPreDiff removal at inference
    """

    def __init__(self, encoder: nn.Module, objective: nn.Module, context: nn.Module | None) -> None:
        super().__init__()
        self.encoder, self.objective, self.context = encoder, objective, context

    def forward(
        self, clean: Tensor, target: Tensor, tokens: Tensor, *, step: int, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        """Mean loss of a batch and its parts, "loss/base" and "loss/context" apart."""
        denoising = self.objective(clean, self.encoder(tokens), generator=generator)
        if self.context is not None:
            parts: Mapping[str, Tensor] = self.context(denoising, target, generator=generator)
        else:
            parts = {"loss": denoising.loss.mean(), "loss/base": denoising.loss.mean()}
        return {**parts, **{name: term.mean() for name, term in denoising.terms.items()}}


def train(
    desk: Desk,
    settings: Denoiser,
    module: TextToImage,
    clean: Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]],
    length: int,
) -> TextToImage:
    """Train `module` on (clean, target) = `clean(indices, generator)` under its captions; returns what is kept."""
    words: dict[str, CaptionTokens] = {}

    def batch(indices: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        if not words:
            words["tokens"] = CaptionTokens(desk, generator.device)
        indices = indices.to(generator.device)
        values, target = clean(indices, generator)
        return values, target, words["tokens"].draw(indices, generator)

    def make(accelerator: Accelerator) -> GradientStep:
        return GradientStep(module, settings.training, accelerator, parted=ranks.parted())

    step = fit(desk, make, batch, length, settings.training)
    kept = step.result.cpu().eval()
    assert isinstance(kept, TextToImage)
    if desk.leads:
        save_file(kept.encoder.state_dict(), desk.folder / "captions.safetensors")
    if desk.leads and kept.context is not None:
        save_file(kept.context.state_dict(), desk.folder / "context.safetensors")
    return kept


class SampleSettings(Protocol):
    """What the sampling stages have in common."""

    @property
    def denoiser(self) -> Denoiser: ...
    @property
    def number(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def seed(self) -> int: ...


def sample(desk: Desk, settings: SampleSettings, draw: Callable[[Tensor, list[torch.Generator]], Tensor]) -> None:
    """Draw a sample for each of the first held-out captions, in batches.

    Every batch is written once: an interrupted sampling goes on where it was. Sample i depends on (seed, i) alone.

    draw: (caption states (b, l, d), one generator per sample) -> samples.
    """
    states = held_out_states(desk, settings.denoiser.captions, settings.number)
    precision = settings.denoiser.training.precision

    def make(mine: range) -> Tensor:
        generators = [stream(settings.seed, i, 0, states.device) for i in mine]
        with torch.inference_mode(), torch.autocast(states.device.type, torch.bfloat16, enabled=precision == "bf16"):
            return draw(states[mine.start : mine.stop], generators)

    in_parts(desk, settings.number, settings.batch, make)


def in_parts(desk: Desk, number: int, batch: int, make: Callable[[range], Tensor]) -> None:
    """Write what `make` gives for each batch of so many samples: `samples-*.safetensors`.

    Every batch is written once, by one of the ranks: an interrupted stage goes on where it was. All are there when it
    ends.
    """
    starts = range(0, number, batch)[desk.rank :: desk.ranks]
    missing = [start for start in starts if not part(desk.folder, start).exists()]
    for start in desk.track(missing, len(starts), len(starts) - len(missing)):
        made = make(range(start, min(start + batch, number)))
        partial = part(desk.folder, start).with_suffix(".partial")
        save_file({"samples": made.cpu().contiguous()}, partial)
        partial.rename(part(desk.folder, start))
    if desk.ranks > 1:
        ranks.meet()


def held_out_states(desk: Desk, settings: Captions, number: int) -> Tensor:
    """States (number, l, d) of `held_out_captions`, from the encoder of input "model", or the frozen one."""
    encoder = texts.encoder(desk, settings)
    encoder.load_state_dict(load_file(desk.inputs["model"] / "captions.safetensors"))
    spoken = held_out_captions(Split.load(desk.inputs["data"] / HELD_OUT), number)
    tokens = texts.read(spoken, texts.words(desk, settings)).tokens
    encoder = encoder.eval().to(device())
    with torch.inference_mode():
        return torch.cat([encoder(part.to(device())) for part in tokens.split(READ)])


def held_out_captions(held_out: Split, number: int) -> list[str]:
    """Captions to sample under: of image i the first; where the images are fewer, round again with the next ones."""
    count = len(held_out.captions)
    turns = ((held_out.captions[i % count], i // count) for i in range(number))
    return [captions[turn % len(captions)] for captions, turn in turns]


def part(folder: Path, start: int) -> Path:
    """Where the batch that begins with sample `start` is written."""
    return folder / f"samples-{start:07d}.safetensors"


def samples(folder: Path) -> Tensor:
    """All samples of a finished sampling, in order."""
    return torch.cat([load_file(path)["samples"] for path in sorted(folder.glob("samples-*.safetensors"))])


def device() -> torch.device:
    """Where sampling runs."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")

"""What training and sampling a denoiser have in common, whatever it draws and is told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from reproductions import ranks
from reproductions.artefacts import Desk
from reproductions.conditioning import Conditioning
from reproductions.gathering.splits import HELD_OUT
from reproductions.loop.steps import GradientStep, TrainingSettings
from reproductions.loop.streams import stream
from reproductions.stages import conditions
from reproductions.stages.coding import Clean, Decoder
from reproductions.stages.presets import Showing
from reproductions.text_to_image import device, in_parts
from reproductions.training import fit

Draw = Callable[["Conditional", Any, Sequence[torch.Generator]], Tensor]
SHOWN, TIMES_SHOWN = 16, 10


@runtime_checkable
class Composite(Protocol):
    """What is given besides what is told: it makes the whole condition, `reader` making that of what is told."""

    def read_by(self, reader: nn.Module) -> Any:
        """The denoiser's condition."""


class Conditional(nn.Module):
    """A diffusion objective behind what makes its condition."""

    def __init__(self, reader: nn.Module, objective: nn.Module) -> None:
        super().__init__()
        self.reader, self.objective = reader, objective

    @property
    def denoiser(self) -> nn.Module:
        """The network that is trained."""
        return self.objective.get_submodule("denoiser")

    def condition(self, given: Any) -> Any:
        """The denoiser's condition."""
        if isinstance(given, Composite):
            return given.read_by(self.reader)
        return None if given is None else self.reader(given)

    def forward(self, clean: Tensor, given: Any, *, step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Mean loss of a batch and its parts."""
        denoising = self.objective(clean, self.condition(given), generator=generator)
        return {"loss": denoising.loss.mean(), **{name: term.mean() for name, term in denoising.terms.items()}}

    def save(self, desk: Desk) -> None:
        """Write all that was trained beside the denoiser."""
        conditions.save_reader(self.reader, desk)


Build = Callable[[nn.Module, nn.Module], Conditional]


class Frozen(nn.Module):
    """A trained denoiser beside its process, as an objective has them."""

    def __init__(self, denoiser: nn.Module, process: nn.Module) -> None:
        super().__init__()
        self.denoiser, self.process = denoiser, process


class Examples(Protocol):
    """Training examples, each with what the denoiser is given of it."""

    def __len__(self) -> int: ...

    def draw(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Any]:
        """The examples at these indices, and what is given of them."""

    def shown(self, number: int) -> conditions.Prompts:
        """What samples on TensorBoard are drawn for."""


class Told:
    """Training examples, with what the denoiser is told of each."""

    def __init__(self, desk: Desk, told: Conditioning, clean: Clean) -> None:
        self.desk, self.told, self.clean = desk, told, clean
        self.teller = conditions.Teller(desk, told, device())

    def __len__(self) -> int:
        return len(self.clean)

    def draw(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        return self.clean.draw(indices, generator), self.teller.draw(indices, generator)

    def shown(self, number: int) -> conditions.Prompts:
        return conditions.prompts(self.desk, self.told, HELD_OUT, number)


def train(desk: Desk, module: Conditional, examples: Examples, settings: TrainingSettings, draw: Draw) -> Conditional:
    """Train; samples go to TensorBoard at the end of every tenth of the training; returns what is kept."""

    def batch(indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Any]:
        return examples.draw(indices.to(generator.device), generator)

    def make(accelerator: Any) -> Showing:
        step = GradientStep(module, settings, accelerator, parted=ranks.parted())
        show = partial(_show, desk, examples, settings, step, Decoder(desk.inputs), draw)
        return Showing(step, show, max(1, settings.steps // TIMES_SHOWN))

    shown = fit(desk, make, batch, len(examples), settings)
    assert isinstance(shown.step, GradientStep)
    kept = shown.step.result.cpu().eval()
    assert isinstance(kept, Conditional)
    return kept


def _show(
    desk: Desk,
    examples: Examples,
    settings: TrainingSettings,
    step: GradientStep,
    decoder: Decoder,
    draw: Draw,
    index: int,
) -> None:
    """Put samples of the weights so far on TensorBoard; nothing of the training depends on them."""
    kept = step.result
    assert isinstance(kept, Conditional)
    if not desk.leads:
        return
    training = kept.training
    kept.eval()
    wanted = examples.shown(SHOWN)
    generators = [stream(settings.seed, i, 0, device()) for i in range(len(wanted.words))]
    values = drawn(kept, wanted.values, generators, settings.precision, draw)
    with torch.inference_mode():
        images = decoder.floats(values).clamp(-1, 1)
    kept.train(training)
    with SummaryWriter(str(desk.tensorboard)) as board:
        board.add_images("samples", (images.cpu().float() + 1) / 2, index)
        board.add_text("samples for", "; ".join(wanted.words), index)


def drawn(module: Conditional, given: Any, generators: Sequence[torch.Generator], precision: str, draw: Draw) -> Tensor:
    """Samples of a batch in the precision of the training."""
    where = device()
    with torch.inference_mode(), torch.autocast(where.type, torch.bfloat16, enabled=precision == "bf16"):
        return draw(module, None if given is None else given.to(where), generators)


@dataclass(frozen=True)
class Sampling:
    """How many samples of a trained denoiser, for the prompts of which split, from which seed, in what batches."""

    training: Any
    walk: Any
    number: int
    split: str
    batch: int
    seed: int


def sample(desk: Desk, module: Conditional, precision: str, draw: Draw) -> None:
    """Draw what a stage's `Sampling` asks for, in batches: `samples-*.safetensors`.

    Sample i depends on (seed, i) alone.
    """
    settings: Sampling = desk.settings
    wanted = conditions.prompts(desk, settings.training.told, settings.split, settings.number)

    def make(mine: range) -> Tensor:
        generators = [stream(settings.seed, i, 0, device()) for i in mine]
        return drawn(module, wanted.of(mine), generators, precision, draw)

    in_parts(desk, settings.number, settings.batch, make)


def size(build: Callable[[], nn.Module], settings: TrainingSettings) -> Mapping[str, int]:
    """Size of a network and its training, for the plan."""
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in build().parameters())
    return {"parameters": count, "steps": settings.steps}

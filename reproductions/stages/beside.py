"""What stands beside the noisy state of a denoiser that was trained for a task: a hole, or a small picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reproductions.artefacts import Desk
from reproductions.conditioning import Conditioning
from reproductions.gathering.rows import taken
from reproductions.gathering.splits import HELD_OUT, TRAIN, pictures
from reproductions.recipes.tasks import Inpainting, SuperResolution, Task
from reproductions.stages import conditions
from reproductions.stages.autoencoding import to_signed
from reproductions.stages.coding import Decoder, Latents, Pixels, seen, sides
from reproductions.stages.continuous import Condition, ForwardProcess, beside_hole, beside_small
from reproductions.stages.evaluating import NARROW, WIDE, draw_masks, resize_bytes
from reproductions.text_to_image import device

LAWS = (replace(WIDE, largest_share=1.0), replace(NARROW, largest_share=1.0))
Make = Callable[[Tensor, torch.Generator], Condition]


@dataclass(frozen=True)
class Given:
    """What a denoiser is told, as a batch (b, ...) or nothing, and what stands beside its noisy state."""

    told: Tensor | None
    beside: Condition

    def to(self, where: torch.device) -> "Given":
        """The same on another device."""
        parts = {field.name: getattr(self.beside, field.name) for field in fields(Condition)}
        moved = Condition(**{name: value.to(where) for name, value in parts.items() if value is not None})
        return Given(None if self.told is None else self.told.to(where), moved)

    def read_by(self, reader: nn.Module) -> Condition:
        """The condition of both, `reader` making one of what is told."""
        told = Condition.of(None if self.told is None else reader(self.told))
        return replace(told, concat=self.beside.concat, level=self.beside.level)


def channels(task: Task | None, width: int) -> int:
    """Channels beside states of so many: those of a masked picture, coded alike, and of its mask; or the colours."""
    if task is None:
        return 0
    return width + 1 if isinstance(task, Inpainting) else 3


def hole(coder: Decoder, images: Tensor, mask: Tensor) -> Condition:
    """The picture (b, 3, H, W) in [-1, 1], black where mask (b, 1, H, W) is true, as the denoiser's states are coded.

    The mask is put beside it, at their size.
    """
    masked = torch.where(mask, -1.0, images)
    return Condition(concat=beside_hole(coder.encode(masked), mask.float()))


def reduced(images: Tensor, factor: int) -> Tensor:
    """uint8 images (b, 3, H, W), smaller by a factor: bicubic and antialiased, as Pillow does it."""
    return resize_bytes(images, images.shape[2] // factor, images.shape[3] // factor)


def draw_training_masks(desk: Desk) -> None:
    """Masks of both of LaMa's laws in turn: `masks.safetensors` with `masks (n, 1, H, W)`, bool."""
    settings: TrainingMasks = desk.settings
    drawn = [
        draw_masks(LAWS[i % len(LAWS)], 1, settings.side, settings.side, seed=settings.seed, first=i)
        for i in desk.track(range(settings.number))
    ]
    save_file({"masks": torch.cat(drawn)}, desk.folder / "masks.safetensors")


@dataclass(frozen=True)
class TrainingMasks:
    """How many masks, of pictures of which side, from which seed."""

    number: int
    side: int
    seed: int


def holes(desk: Desk, coder: Decoder) -> Make:
    """What puts a training mask, drawn by chance, into each of uint8 images (b, 3, H, W), and stands it beside."""
    masks = load_file(desk.inputs["masks"] / "masks.safetensors")["masks"].to(device())

    def make(images: Tensor, generator: torch.Generator) -> Condition:
        return hole(coder, to_signed(images), masks[sides(len(masks), images, generator)])

    return make


def small(task: SuperResolution, process: ForwardProcess, grid: Sequence[int]) -> Make:
    """What reduces uint8 images (b, 3, H, W), noises them where the task says so, and brings them to a grid (h, w)."""

    def make(images: Tensor, generator: torch.Generator) -> Condition:
        level = sides(task.augmentation + 1, images, generator) if task.augmentation else None
        pictures = to_signed(reduced(images, task.factor))
        return beside_small(pictures, grid, process=process, level=level, generator=generator)

    return make


class Beside:
    """Training examples, with what the denoiser is told of each and what stands beside it."""

    def __init__(self, desk: Desk, told: Conditioning, clean: Latents | Pixels, make: Make) -> None:
        self.desk, self.told, self.clean, self.make = desk, told, clean, make
        self.teller = conditions.Teller(desk, told, device())
        self.images = clean.images if isinstance(clean, Pixels) else pictures(desk.inputs["data"] / TRAIN)

    def __len__(self) -> int:
        return len(self.clean)

    def draw(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Given]:
        view = sides(self.clean.views, indices, generator)
        images = seen(taken(self.images, indices.to(view.device)), view)
        with torch.no_grad():
            beside = self.make(images, generator)
        return self.clean.seen(view, indices, generator), Given(self.teller.draw(indices, generator), beside)

    def shown(self, number: int) -> conditions.Prompts:
        images = pictures(self.desk.inputs["data"] / HELD_OUT)[:number].to(device())
        with torch.inference_mode():
            beside = self.make(images, torch.Generator(device()).manual_seed(0))
        told = conditions.of_pictures(self.desk, self.told, len(images))
        return conditions.Prompts(Given(told, beside), ("held-out pictures",) * len(images))

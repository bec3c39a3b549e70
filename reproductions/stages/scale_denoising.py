"""ImageBART: each scale trained alone, all put together, sampled from coarse to fine, and bounded."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from reproductions.artefacts import Desk, write_json
from reproductions.conditioning import Conditioning, Kind
from reproductions.data import Split
from reproductions.gathering.rows import taken
from reproductions.gathering.splits import HELD_OUT
from reproductions.loop.streams import stream
from reproductions.recipes.scale_recipes import Chain, Words, spoken_to
from reproductions.stages import conditions, denoising
from reproductions.stages.autoencoding import to_signed
from reproductions.stages.captioning import BytePairs
from reproductions.stages.coding import Decoder, Tokens
from reproductions.stages.discrete import (
    DecoderOnly,
    EncoderDecoder,
    ImageBART,
    Multinomial,
    ScaleObjective,
    draw_scale,
    draw_scales,
    explicit,
    scale_bound,
)
from reproductions.stages.scale_walks import Walk
from reproductions.text_to_image import device

SCALE, TIMING, BOUND = "scale", "timing.json", "bound.json"
Network = EncoderDecoder | DecoderOnly


@dataclass(frozen=True)
class Training:
    """A chain and what it is told; it reads captions as tokens, and needs no encoder of them."""

    chain: Chain
    told: Conditioning


@dataclass(frozen=True)
class ScaleTraining(Training):
    """One scale of a chain, from 1; or all of them jointly (None)."""

    scale: int | None


def network(settings: Training, scale: int | None, words: Words | None) -> Network:
    """A fresh network for a scale, or for all; words: those that it is told."""
    kind = DecoderOnly if settings.chain.decoder_only is not None and scale == settings.chain.scales else EncoderDecoder
    built: Network = kind(**arguments(settings, scale, words))
    return built


def arguments(settings: Training, scale: int | None, words: Words | None) -> Mapping[str, Any]:
    """Arguments of the network of a scale."""
    found = settings.chain.arguments(scale)
    return found if words is None else spoken_to(found, words)


def words_of(desk: Desk, told: Conditioning) -> Words | None:
    """The words of the captions that the denoiser is told, where it is told any."""
    if told.kind is not Kind.CAPTION:
        return None
    tokenizer = BytePairs.load(desk.inputs["captions"] / "tokenizer.json")
    return Words(tokenizer.size, tokenizer.length)


def train_scale(desk: Desk, build: denoising.Build = denoising.Conditional) -> None:
    """Train one scale, or all jointly: `scale/`; build: of reader and objective, what is trained."""
    settings: ScaleTraining = desk.settings
    chain, t = settings.chain, settings.scale
    clean = Tokens(desk.inputs["clean"], device())
    torch.manual_seed(chain.training.seed)
    process = Multinomial(explicit(chain.keep, clean.codes))
    built = network(settings, t, words_of(desk, settings.told))
    objective = ScaleObjective(built, process, scale=t, sampled=chain.sampled[(t or 1) - 1])
    module = build(nn.Identity(), objective)
    examples = denoising.Told(desk, settings.told, clean)
    kept = denoising.train(desk, module, examples, chain.training, _shown(desk, settings, clean))
    if desk.leads:
        trained = kept.denoiser
        assert isinstance(trained, Network)
        trained.save_pretrained(desk.folder / SCALE)
        kept.save(desk)


def _shown(desk: Desk, settings: ScaleTraining, clean: Tokens) -> denoising.Draw:
    """What draws the finer scale of the coarser one of training pictures, those of which the same is told, if any are.

    Where all scales are trained jointly, they show the first.
    """
    told = of_training_pictures(desk, settings.told)

    def draw(module: denoising.Conditional, given: Tensor | None, generators: Sequence[torch.Generator]) -> Tensor:
        process, denoiser = module.objective.get_submodule("process"), module.denoiser
        assert isinstance(process, Multinomial)
        assert isinstance(denoiser, Network)
        which = torch.arange(len(generators)) % len(clean)
        if given is not None and told is not None:
            same = torch.stack([(told == each).flatten(1).all(1) for each in given], 1)
            which = torch.where(same.any(0), same.int().argmax(0), which.to(given.device))
        times = torch.full((len(generators),), settings.scale or 1, device=device())
        x_t = process.sample(taken(clean.tokens[0], which.to(device())), times, generator=generators)
        drawn: Tensor = draw_scale(denoiser, x_t, times, module.condition(given), generator=generators)
        return drawn

    return draw


def of_training_pictures(desk: Desk, told: Conditioning) -> Tensor | None:
    """What is told of each training picture: labels (N, 1), tokens (N, l) of its first caption, or nothing."""
    teller = conditions.Teller(desk, told, device())
    if teller.captions is not None:
        return taken(teller.captions.tokens, teller.captions.first[:-1].to(device()))
    return None if teller.labels is None else teller.labels[:, None]


def join(desk: Desk) -> None:
    """Put the trained scales together: `denoiser/`."""
    settings: Training = desk.settings
    words, trainings = words_of(desk, settings.told), settings.chain.trainings
    given = [arguments(settings, scale, words) for scale in trainings]
    joint = settings.chain.decoder_only is None
    model = ImageBART(
        keep=settings.chain.keep,
        encoder_decoders=given if joint else given[:-1],
        decoder_only=None if joint else given[-1],
    )
    for scale, each in zip(trainings, model.networks, strict=True):
        each.load_state_dict(load_file(desk.inputs[scale_name(scale)] / SCALE / "model.safetensors"))
    model.save_pretrained(desk.folder / "denoiser")


def scale_name(scale: int | None) -> str:
    """What the training of a scale is called, or of all scales."""
    return "scales" if scale is None else f"scale {scale}"


def trained(desk: Desk, training: Training) -> tuple[denoising.Conditional, Tokens]:
    """The chain of input "model" with its process, and the tokens that it learned from."""
    model = ImageBART.from_pretrained(desk.inputs["model"] / "denoiser")
    frozen = denoising.Frozen(model, model.process)
    module = denoising.Conditional(nn.Identity(), frozen)
    return module.to(device()).eval(), Tokens(desk.inputs["clean"], torch.device("cpu"))


def chain_of(module: denoising.Conditional) -> ImageBART:
    """The chain itself."""
    model = module.denoiser
    assert isinstance(model, ImageBART)
    return model


def drawer(walk: Walk, length: int) -> denoising.Draw:
    """What draws tokens (b, n) from coarse to fine."""

    def draw(module: denoising.Conditional, given: Tensor | None, generators: Sequence[torch.Generator]) -> Tensor:
        model = chain_of(module)
        tokens: Tensor = draw_scales(
            model.denoisers,
            (len(generators), length),
            module.condition(given),
            process=model.process,
            filters=walk.filters(model.process.scales),
            generator=generators,
        )
        return tokens

    return draw


def sample(desk: Desk) -> None:
    """Tokens (b, n) for the prompts: `samples-*.safetensors`; what they took: `timing.json`."""
    settings: denoising.Sampling = desk.settings
    module, clean = trained(desk, settings.training)
    draw = Timed(drawer(settings.walk, clean.shape[0]))
    denoising.sample(desk, module, settings.training.chain.training.precision, draw)
    if draw.images and desk.leads:
        write_json(desk.folder / TIMING, draw.facts())


class Timed:
    """Counts what drawing takes, by the clock and of the processor."""

    def __init__(self, draw: denoising.Draw) -> None:
        self.draw, self.images, self.seconds, self.processor = draw, 0, 0.0, 0.0

    def __call__(
        self, module: denoising.Conditional, given: Tensor | None, generators: Sequence[torch.Generator]
    ) -> Tensor:
        wall, processor = time.perf_counter(), time.process_time()
        drawn = self.draw(module, given, generators).cpu()
        self.seconds += time.perf_counter() - wall
        self.processor += time.process_time() - processor
        self.images += len(generators)
        return drawn

    def facts(self) -> Mapping[str, float]:
        """Seconds for one image."""
        return {
            "images": self.images,
            "seconds": self.seconds / self.images,
            "processor seconds": self.processor / self.images,
        }


@dataclass(frozen=True)
class Bounding:
    """Of how many held-out pictures to bound the likelihood, in what batches, from which seed."""

    training: Training
    number: int
    batch: int
    seed: int


def bound(desk: Desk) -> None:
    """The bound on the likelihood of held-out tokens in bits per token, with its interval: `bound.json`.

    One draw at each scale for every picture; the interval, of 95 %, is that of a mean over pictures.
    """
    settings: Bounding = desk.settings
    module, clean = trained(desk, settings.training)
    model, coder = chain_of(module), Decoder(desk.inputs)
    held_out = Split.load(desk.inputs["data"] / HELD_OUT)
    images = held_out.images[: settings.number]
    told = conditions.of_pictures(desk, settings.training.told, len(images))
    totals: list[Tensor] = []
    terms: list[Tensor] = []
    starts = range(0, len(images), settings.batch)
    with torch.inference_mode():
        for start in desk.track(starts, len(starts)):
            part = slice(start, start + settings.batch)
            tokens = coder.encode(to_signed(images[part].to(device())))
            given = None if told is None else told[part].to(device())
            generator = stream(settings.seed, start, 0, device())
            found = scale_bound(model.denoisers, model.process, tokens, given, generator=generator)
            totals.append(found.total.cpu())
            terms.append(found.scales.cpu())
    bits = torch.cat(totals).double() / math.log(2)
    spread = 1.96 * float(bits.std()) / math.sqrt(len(bits)) if len(bits) > 1 else math.nan
    mean = float(bits.mean())
    facts: dict[str, Any] = {
        "name": "bits per token",
        "value": mean,
        "low": mean - spread,
        "high": mean + spread,
        "pictures": len(bits),
        "scales": (torch.cat(terms, 1).double().mean(1) / math.log(2)).tolist(),
        "uniform": math.log2(clean.codes),
    }
    write_json(desk.folder / BOUND, facts)


def read_json(folder: Any, name: str) -> Any:
    """What a stage wrote."""
    return json.loads((folder / name).read_text())

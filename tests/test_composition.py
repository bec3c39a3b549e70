"""The context loss beside any denoiser: it trains the denoiser through its features, and leaves nothing behind."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import continuous_diffusion
import discrete_diffusion
from context_prediction import Constant, ContextPrediction
from discrete_diffusion import imagebart

B, H, W, WIDTH, STATES = 2, 4, 4, 32, 3


@dataclass(frozen=True)
class Twin:
    """A small denoiser with all that is needed to train and to sample it; `grid` is what the context loss looks at."""

    package: ModuleType
    build: Callable[[], nn.Module]
    process: nn.Module
    clean: Tensor
    grid: Tensor
    shape: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def denoiser(self) -> nn.Module:
        torch.manual_seed(0)
        denoiser = self.build()
        for parameter in denoiser.parameters():  # a layer that starts at zero would hide differences
            nn.init.normal_(parameter, std=0.05)
        return denoiser

    def objective(self, denoiser: nn.Module) -> nn.Module:
        return self.package.Objective(denoiser, self.process)

    def conditions(self) -> Tensor:
        return torch.randn(B, STATES, 8, generator=torch.Generator().manual_seed(1))

    def sample(self, denoiser: nn.Module, images: range = range(B)) -> Tensor:
        condition = self.conditions()[images.start : images.stop]
        seeds = [torch.Generator().manual_seed(i) for i in images]
        shape = (len(images), *self.shape)
        options = {"process": self.process, "steps": 3, "guidance": 2.0, **self.options}
        return self.package.sample(denoiser, shape, condition, **options, generator=seeds)


@dataclass(frozen=True)
class Scale(Twin):
    """A scale of ImageBART, told a class: it is drawn of the clean tokens, as if they were the coarser ones."""

    scale: int = 1

    def objective(self, denoiser: nn.Module) -> nn.Module:
        return imagebart.ScaleObjective(denoiser, self.process, scale=self.scale)

    def conditions(self) -> Tensor:
        return torch.arange(B)

    def sample(self, denoiser: nn.Module, images: range = range(B)) -> Tensor:
        which = slice(images.start, images.stop)
        seeds = [torch.Generator().manual_seed(i) for i in images]
        times = torch.full((len(images),), self.scale)
        return imagebart.draw_scale(denoiser, self.clean[which], times, self.conditions()[which], generator=seeds)


def tokens() -> tuple[Tensor, Tensor]:
    """Tokens, and the grid of their code vectors."""
    drawn = torch.randint(0, 10, (B, H * W), generator=torch.Generator().manual_seed(2))
    vectors = torch.randn(10, 5, generator=torch.Generator().manual_seed(3))
    return drawn, vectors[drawn].unflatten(1, (H, W)).movedim(-1, 1)


def encoder_decoder() -> Twin:
    size = {"codes": 10, "grid": (H, W), "width": WIDTH, "heads": 2, "prefix": 1}
    return Scale(
        discrete_diffusion,
        lambda: imagebart.EncoderDecoder(**size, encoder_depth=1, decoder_depth=1, head_width=8),
        imagebart.Multinomial(imagebart.geometric(2, 10)),
        *tokens(),
        (H * W,),
        scale=1,
    )


def decoder_only() -> Twin:
    size = {"codes": 10, "grid": (H, W), "width": WIDTH, "heads": 2, "prefix": 1}
    return Scale(
        discrete_diffusion,
        lambda: imagebart.DecoderOnly(**size, depth=1),
        imagebart.Multinomial(imagebart.geometric(2, 10)),
        *tokens(),
        (H * W,),
        scale=2,
    )


def discrete() -> Twin:
    return Twin(
        discrete_diffusion,
        lambda: discrete_diffusion.TokenTransformer(
            codes=10, grid=(H, W), steps=6, width=WIDTH, depth=1, heads=2, condition_width=8
        ),
        discrete_diffusion.ForwardProcess(discrete_diffusion.Schedule.released(6, 10)),
        *tokens(),
        (H * W,),
    )


def continuous() -> Twin:
    latents = torch.randn(B, 5, H, W, generator=torch.Generator().manual_seed(2))
    return Twin(
        continuous_diffusion,
        lambda: continuous_diffusion.UNet(
            in_channels=5,
            out_channels=5,
            channels=WIDTH,
            multipliers=(1, 1),
            residual_blocks=1,
            attention_at=(1,),
            heads=2,
            condition_width=8,
        ),
        continuous_diffusion.ForwardProcess(continuous_diffusion.Schedule.cosine(6)),
        latents,
        latents,
        (5, H, W),
    )


@pytest.fixture(params=[discrete, continuous, encoder_decoder, decoder_only], ids=lambda twin: twin.__name__)
def twin(request: pytest.FixtureRequest) -> Twin:
    return request.param()


def train(twin: Twin, denoiser: nn.Module, head: ContextPrediction | None, weight: float = 0.0, steps: int = 3) -> None:
    """A few steps of either loss, or of both; the head draws from a generator of its own."""
    objective = twin.objective(denoiser)
    optimiser = torch.optim.SGD([*denoiser.parameters(), *(head.parameters() if head else [])], 0.1)
    ours, theirs = torch.Generator().manual_seed(4), torch.Generator().manual_seed(5)
    for _ in range(steps):
        denoising = objective(twin.clean, twin.conditions(), generator=ours)
        loss = denoising.loss
        if head is not None:
            context = head(denoising.features, twin.grid, t=denoising.t, generator=theirs)
            loss = loss + Constant(weight)(denoising.t) * context.loss
        optimiser.zero_grad()
        loss.mean().backward()
        optimiser.step()


def head_of(twin: Twin) -> ContextPrediction:
    return ContextPrediction(features=WIDTH, target=twin.grid.shape[1], stride=1, samples=3)


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_head_of_weight_zero_changes_nothing(twin: Twin) -> None:
    without, beside = twin.denoiser(), twin.denoiser()
    train(twin, without, None)
    train(twin, beside, head_of(twin), weight=0.0)
    torch.testing.assert_close(beside.state_dict(), without.state_dict(), rtol=0, atol=1e-6)


def test_the_context_loss_reaches_the_denoiser(twin: Twin) -> None:
    without, beside, head = twin.denoiser(), twin.denoiser(), head_of(twin)
    untrained = copy.deepcopy(head.state_dict())
    train(twin, without, None)
    train(twin, beside, head, weight=1.0)
    assert not same(without.state_dict(), beside.state_dict())
    assert not same(untrained, head.state_dict())


def test_nothing_of_the_head_is_left_at_inference(twin: Twin) -> None:
    """The trained weights fit a denoiser that never met the head, strictly, and sample the same there, bit for bit.

    Checks: ConPreDiff removal at inference
    """
    trained, head, fresh = twin.denoiser(), head_of(twin), twin.build()
    train(twin, trained, head, weight=1.0)
    assert [*trained.state_dict()] == [*fresh.state_dict()]
    fresh.load_state_dict(trained.state_dict(), strict=True)
    before = twin.sample(trained)
    del head
    assert torch.equal(twin.sample(fresh), before)


def test_an_image_depends_on_its_own_seed_alone(twin: Twin) -> None:
    denoiser = twin.denoiser()
    together = twin.sample(denoiser)
    for i in range(B):
        alone = twin.sample(denoiser, range(i, i + 1))
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-4, atol=1e-5)
    assert not torch.equal(together[0], together[1])

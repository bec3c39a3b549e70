import pytest
import torch
from torch import Tensor

from discrete_diffusion import (
    Exact,
    FewerTokens,
    ForwardProcess,
    Kept,
    Prediction,
    ReleasedStride,
    Schedule,
    State,
    TokenTransformer,
    by_gumbel_noise,
    inpaint,
    sample,
    token_mask,
    trajectory,
)

K, T = 9, 6
CLEAN = torch.arange(2 * 12).reshape(2, 12) % K
FILL = torch.rand(2, 12, generator=torch.Generator().manual_seed(1)) < 0.5


@pytest.fixture
def model() -> TokenTransformer:
    torch.manual_seed(0)
    return TokenTransformer(codes=K, grid=(3, 4), steps=T, width=16, depth=1, heads=2)


@pytest.mark.parametrize("route", [Exact(), Exact(by_gumbel_noise), ReleasedStride(1), FewerTokens()], ids=str)
def test_kept_tokens_are_kept_in_every_state_and_the_rest_is_filled(model: TokenTransformer, route) -> None:
    """Checks: VQ-Diffusion inpainting"""
    schedule = Schedule.released if isinstance(route, FewerTokens | ReleasedStride) else Schedule.paper
    process = ForwardProcess(schedule(T, K))
    states = list(trajectory(model, (2, 12), process=process, route=route, kept=Kept(CLEAN, FILL)))
    assert all(torch.equal(state.x[~FILL], CLEAN[~FILL]) for state in states)
    assert bool((states[-1].x < K).all())


def test_a_full_mask_is_plain_sampling_and_an_empty_one_returns_the_tokens(model: TokenTransformer) -> None:
    process = ForwardProcess(Schedule.paper(T, K))

    def seeds() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(i) for i in range(2)]

    everything = inpaint(model, CLEAN, torch.ones_like(FILL), process=process, generator=seeds())
    assert torch.equal(everything, sample(model, (2, 12), process=process, generator=seeds()))
    numbers = inpaint(model, CLEAN, FILL.float(), process=process, generator=seeds())
    assert torch.equal(numbers, inpaint(model, CLEAN, FILL, process=process, generator=seeds()))
    nothing = inpaint(model, CLEAN, torch.zeros_like(FILL), process=process, generator=seeds())
    assert torch.equal(nothing, CLEAN)


def test_filled_tokens_follow_from_those_that_are_kept() -> None:
    """Oracle: three dependent tokens with a known law; the third, given the first two, as often as that law says.

    Checks: Improved VQ-Diffusion fewer tokens per step
    Checks: VQ-Diffusion inpainting
    """
    joint = torch.tensor([[[0.3, 0.05], [0.05, 0.1]], [[0.1, 0.05], [0.05, 0.3]]], dtype=torch.float64)

    class Law:
        def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
            third = joint[tuple(x_t[:, :2].T)]  # what is known of the third, given the first two
            value = torch.stack([torch.ones_like(third), torch.ones_like(third), third], 1)
            return Prediction(value.log(), torch.zeros(len(x_t), 1, 1, 3))

        def null_condition(self, b: int, l: int) -> Tensor:  # noqa: E741
            return torch.zeros(b, l, 1)

    known = torch.tensor([[1, 0, 0]]).expand(20_000, 3).contiguous()
    mask = torch.tensor([[False, False, True]]).expand(20_000, 3).contiguous()
    for route in (Exact(), FewerTokens(sharpness=0.0)):
        steps = None if route == Exact() else 1
        generator = torch.Generator().manual_seed(0)
        process = ForwardProcess(Schedule.mask_only(4, 2))
        filled = inpaint(Law(), known, mask, process=process, steps=steps, route=route, generator=generator)
        assert torch.equal(filled[:, :2], known[:, :2])
        assert filled[:, 2].double().mean().item() == pytest.approx(1 / 3, abs=5 * (2 / 9 / 20_000) ** 0.5)


def test_editing_starts_from_noised_tokens(model: TokenTransformer) -> None:
    """From t = 0 there is nothing to do; from a t above, tokens that were not noised away are there at the start."""
    process = ForwardProcess(Schedule.mask_only(T, K))
    noised = process.sample(CLEAN, torch.full((2,), 2), generator=torch.Generator().manual_seed(0))
    states = list(trajectory(model, (2, 12), process=process, start=State(2, noised), route=Exact()))
    assert [state.t for state in states] == [1, 0]
    assert torch.equal(states[-1].x[noised < K], CLEAN[noised < K])


def test_a_token_is_filled_where_any_pixel_of_its_patch_is() -> None:
    """Oracle: one pixel at a time; and the union of masks is the union of tokens."""
    for row, column in [(0, 0), (3, 5), (7, 11), (4, 4)]:
        pixels = torch.zeros(1, 1, 8, 12)
        pixels[..., row, column] = 1
        assert token_mask(pixels, (2, 4)).nonzero().tolist() == [[0, row // 4 * 4 + column // 3]]
    left, right = (torch.rand(2, 2, 1, 8, 12) < 0.03).unbind(0)
    together = token_mask(left | right, (2, 4))
    assert torch.equal(together, token_mask(left, (2, 4)) | token_mask(right, (2, 4)))
    assert torch.equal(together, token_mask((left | right).to(torch.uint8), (2, 4)))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (torch.zeros(1, 1, 9, 12), r"multiples of the grid 2 x 4; got \(1, 1, 9, 12\)"),
        (torch.full((1, 1, 8, 12), 0.5), "0 .keep. and 1 .fill in. and nothing else"),
    ],
)
def test_bad_pixel_masks_are_named(pixels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        token_mask(pixels, (2, 4))


def test_bad_tokens_and_masks_are_named(model: TokenTransformer) -> None:
    process = ForwardProcess(Schedule.paper(T, K))
    with pytest.raises(ValueError, match=r"fill: shape \(2, 11\) is not that of tokens, \(2, 12\)"):
        inpaint(model, CLEAN, FILL[:, :-1], process=process)
    with pytest.raises(ValueError, match=r"fill: a mask holds 0 .keep. and 1 .fill in. and nothing else"):
        inpaint(model, CLEAN, 0.5 * FILL, process=process)
    with pytest.raises(ValueError, match=r"kept: tokens must be in 0..8, got 0..9"):
        inpaint(model, torch.where(FILL, CLEAN, 9).index_fill(1, torch.tensor([0]), 0), FILL, process=process)
    with pytest.raises(ValueError, match=r"kept: tokens of shape \(2, 12\) do not fit shape \(3, 12\)"):
        sample(model, (3, 12), process=process, kept=Kept(CLEAN, FILL))

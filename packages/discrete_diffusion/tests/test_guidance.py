import pytest
import torch
from torch import Tensor

from discrete_diffusion import (
    ForwardProcess,
    Guided,
    Prediction,
    Schedule,
    TokenTransformer,
    from_vq_diffusion,
    sample,
)

TOKENS, TIMES = torch.zeros(3, 4, dtype=torch.int64), torch.tensor([1, 2, 3])


class Counting:
    """Logits that depend on the condition alone; counts the size of every batch."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Prediction:
        assert condition is not None
        self.batches.append(len(x_t))
        return Prediction(condition.mean(1, keepdim=True).expand(-1, x_t.shape[1], -1), torch.zeros(len(x_t), 1, 2, 2))

    def null_condition(self, b: int, l: int) -> Tensor:  # noqa: E741
        return torch.zeros(b, l, 5)


def test_guidance_tilts_the_law_by_a_power_of_the_likelihood_ratio() -> None:
    """Oracle: `p(x) (p(x | y) / p(x))^scale`, normalised, in probabilities.

    Checks: Improved VQ-Diffusion discrete classifier-free guidance
    """
    denoiser, condition = Counting(), torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0))
    value = Guided(denoiser, 2.5)(TOKENS, TIMES, condition).value
    conditional, unconditional = condition.mean(1).softmax(-1), torch.full((3, 5), 0.2)
    tilted = unconditional * (conditional / unconditional) ** 2.5
    expected = (tilted / tilted.sum(-1, keepdim=True))[:, None].expand(3, 4, 5)
    torch.testing.assert_close(value.exp(), expected)
    assert denoiser.batches == [6]


@pytest.mark.parametrize(("scale", "batches"), [(1.0, [3]), (0.0, [6])])
def test_scale_one_is_the_conditional_law_in_one_call_and_zero_the_unconditional(
    scale: float, batches: list[int]
) -> None:
    """Checks: Improved VQ-Diffusion discrete classifier-free guidance"""
    denoiser, condition = Counting(), torch.randn(3, 2, 5)
    law = Guided(denoiser, scale)(TOKENS, TIMES, condition).value.softmax(-1)
    expected = (scale * condition.mean(1)).softmax(-1)
    torch.testing.assert_close(law, expected[:, None].expand(3, 4, 5))
    assert denoiser.batches == batches


def test_labels_are_guided_too_and_a_given_null_is_used() -> None:
    model = TokenTransformer(codes=5, grid=(2, 2), steps=4, width=8, depth=1, heads=2, classes=3)
    labels = torch.tensor([0, 1, 2])
    to_second = Guided(model, 0.0, null=torch.tensor([1]))(TOKENS, TIMES, labels).value
    expected = model(TOKENS, TIMES, torch.ones_like(labels)).value.log_softmax(-1)
    torch.testing.assert_close(to_second, expected)


def test_guidance_without_a_condition_is_refused() -> None:
    with pytest.raises(ValueError, match="guidance needs one"):
        Guided(Counting(), 2.0)(TOKENS, TIMES)


@pytest.mark.parity
def test_guidance_is_the_official_one(golden) -> None:
    """Oracle: the official guided prediction, scale 5, learnable null.

    Checks: Improved VQ-Diffusion discrete classifier-free guidance, learnable null condition
    """
    case = golden("vqdiffusion_process")
    model = from_vq_diffusion(case.weights("weights_sampling"), case.config["constructor"]["sampling_model"])
    arguments = case.io["cfg.xt"], case.io["cfg.t"] + 1, case.io["cfg.cond"]
    with torch.no_grad():
        for scale, name in ((1.0, "cfg.log_x0_scale1"), (case.config["guidance_scale"], "cfg.log_x0_guided")):
            ours = Guided(model, scale)(*arguments).value.log_softmax(-1)
            torch.testing.assert_close(ours, case.io[name][:, :-1].transpose(1, 2), atol=5e-5, rtol=0)
        null = model(*arguments[:2]).value.log_softmax(-1)
        torch.testing.assert_close(null, case.io["cfg.log_x0_uncond"][:, :-1].transpose(1, 2), atol=5e-5, rtol=0)


def test_the_states_of_an_empty_caption_guide_as_well() -> None:
    """Zero-shot guidance. Oracle: the formula with both predictions; one state or one example serves all.

    Checks: Improved VQ-Diffusion discrete classifier-free guidance
    """
    denoiser, generator = Counting(), torch.Generator().manual_seed(0)
    condition, empty = torch.randn(3, 2, 5, generator=generator), torch.randn(1, 2, 5, generator=generator)
    expected = (3 * condition.mean(1).log_softmax(-1) - 2 * empty.mean(1).log_softmax(-1)).softmax(-1)
    value = Guided(denoiser, 3.0, null=empty)(TOKENS, TIMES, condition).value
    torch.testing.assert_close(value.exp(), expected[:, None].expand(3, 4, 5))
    one = Guided(denoiser, 3.0, null=empty[:, :1]).null_condition(3, 2)
    assert torch.equal(one, empty[:, :1].expand(3, 2, 5))


@pytest.mark.parametrize("shape", [(1, 3, 5), (2, 2, 5)])
def test_a_null_condition_of_another_size_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"null: \({shape[0]}, {shape[1]}, 5\) does not fit 3 examples of 2 states"):
        Guided(Counting(), 2.0, null=torch.zeros(shape))(TOKENS, TIMES, torch.zeros(3, 2, 5))


def test_models_without_a_null_condition_are_not_guided() -> None:
    """A text model that learnt none, and one without any condition."""
    options = {"codes": 5, "grid": (2, 2), "steps": 4, "width": 8, "depth": 1, "heads": 2}
    learnt_none = TokenTransformer(**options, condition_width=3, null_length=0)
    process = ForwardProcess(Schedule.mask_only(4, 5))
    with pytest.raises(ValueError, match="the model has no null states"):
        sample(learnt_none, (3, 4), torch.zeros(3, 2, 3), process=process, guidance=2.0)
    with pytest.raises(ValueError, match="the model has no null states"):
        learnt_none(TOKENS, TIMES)
    guided = Guided(learnt_none, 2.0, null=torch.zeros(1, 2, 3))
    assert sample(guided, (3, 4), torch.ones(3, 2, 3), process=process).shape == (3, 4)
    with pytest.raises(ValueError, match="unconditional"):
        sample(TokenTransformer(**options), (3, 4), torch.zeros(3, 2, 3), process=process, guidance=2.0)

from pathlib import Path

import pytest
import torch

from discrete_diffusion import Denoiser, Guided, TokenTransformer

SMALL = {"codes": 11, "grid": (3, 4), "steps": 10, "width": 16, "depth": 2, "heads": 2}
TOKENS, TIMES = torch.arange(24).reshape(2, 12) % 12, torch.tensor([1, 10])


def test_the_last_layer_is_a_norm_and_a_linear_map_of_the_features() -> None:
    """The logits are made of the features alone, position by position in row-major order.

    Checks: VQ-Diffusion denoising transformer
    """
    model = TokenTransformer(**SMALL, convolution=True, positions_in_every_block=True)
    prediction = model(TOKENS, TIMES)
    assert prediction.value.shape == (2, 12, 11)
    assert prediction.features.shape == (2, 16, 3, 4)
    features = prediction.features.permute(0, 2, 3, 1).reshape(2, 12, 16)
    torch.testing.assert_close(model.logits(model.norm(features)), prediction.value)


def test_without_positions_tokens_are_a_set() -> None:
    """Invariance: with the position tables at zero, permuting the tokens permutes the logits; with them it does not.

    Checks: VQ-Diffusion denoising transformer
    """
    model = TokenTransformer(**SMALL, condition_width=5)
    states, order = torch.randn(2, 4, 5), torch.randperm(12, generator=torch.Generator().manual_seed(1))
    with_positions = model(TOKENS[:, order], TIMES, states).value - model(TOKENS, TIMES, states).value[:, order]
    torch.nn.init.zeros_(model.rows.weight)
    torch.nn.init.zeros_(model.columns.weight)
    torch.testing.assert_close(
        model(TOKENS[:, order], TIMES, states).value, model(TOKENS, TIMES, states).value[:, order]
    )
    assert with_positions.abs().max() > 1e-3


def test_examples_do_not_see_one_another() -> None:
    model = TokenTransformer(**SMALL, classes=3, convolutional_feedforward=True, sinusoidal_time=True)
    labels = torch.tensor([2, 3])
    torch.testing.assert_close(model(TOKENS[1:], TIMES[1:], labels[1:]).value, model(TOKENS, TIMES, labels).value[1:])


def test_no_condition_is_the_null_condition() -> None:
    """Checks: Improved VQ-Diffusion learnable null condition"""
    model = TokenTransformer(**SMALL, condition_width=5)
    null = model.null_condition(2, 7)
    assert null.shape == (2, 7, 5) and null.requires_grad
    torch.testing.assert_close(model(TOKENS, TIMES).value, model(TOKENS, TIMES, null).value)
    labelled = TokenTransformer(**SMALL, classes=3)
    assert torch.equal(labelled.null_condition(2, 1), torch.tensor([3, 3]))
    assert isinstance(model, Denoiser) and isinstance(Guided(model, 2.0), Denoiser)


def test_it_runs_in_bfloat16_close_to_float32() -> None:
    model = TokenTransformer(**SMALL, condition_width=5, convolution=True)
    expected = model(TOKENS, TIMES).value
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(TOKENS, TIMES).value
    torch.testing.assert_close(rounded.float(), expected, atol=0.02, rtol=0.05)


def test_it_is_saved_and_read_back(tmp_path: Path) -> None:
    model = TokenTransformer(**SMALL, condition_width=5, convolution=True, positions_in_every_block=True)
    model.save_pretrained(tmp_path)
    again = TokenTransformer.from_pretrained(tmp_path)
    assert again.grid == (3, 4)
    assert torch.equal(again(TOKENS, TIMES).value, model(TOKENS, TIMES).value)


def test_what_does_not_fit_is_named() -> None:
    model = TokenTransformer(**SMALL, condition_width=5)
    with pytest.raises(ValueError, match=r"x_t: expected \(b, 12\)"):
        model(TOKENS[:, :11], TIMES)
    with pytest.raises(ValueError, match=r"condition: expected \(b, l, 5\)"):
        model(TOKENS, TIMES, torch.zeros(2, 4, 6))
    with pytest.raises(ValueError, match="unconditional"):
        TokenTransformer(**SMALL)(TOKENS, TIMES, torch.zeros(2, 4, 5))
    with pytest.raises(ValueError, match=r"expected \(b,\) labels"):
        TokenTransformer(**SMALL, classes=4)(TOKENS, TIMES, torch.zeros(2, 4, 5))
    with pytest.raises(ValueError, match="multiple of heads"):
        TokenTransformer(**{**SMALL, "heads": 3})
    with pytest.raises(ValueError, match="has 6 null states, the condition has 4"):
        TokenTransformer(**SMALL, condition_width=5, null_length=6).null_condition(2, 4)

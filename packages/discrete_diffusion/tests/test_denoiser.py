import subprocess
import sys
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


def test_a_class_is_added_to_the_time() -> None:
    """Oracle: the same network without classes, whose time embeddings hold the sum of time and class already.

    Checks: VQ-Diffusion denoising transformer
    """
    model = TokenTransformer(**SMALL, classes=3, class_in_time=True)
    plain = TokenTransformer(**SMALL)
    labels = torch.tensor([1, 3])
    for label, expected in ((1, model.labels.table.weight[1]), (3, model.labels.table.weight.mean(0))):
        plain.load_state_dict({name: value for name, value in model.state_dict().items() if "labels" not in name})
        with torch.no_grad():
            for block in plain.blocks:
                block.self_norm.embedding.table.weight.add_(expected)
        i = labels.tolist().index(label)
        torch.testing.assert_close(
            plain(TOKENS[i : i + 1], TIMES[i : i + 1]).value, model(TOKENS, TIMES, labels).value[i : i + 1]
        )
    torch.testing.assert_close(model(TOKENS, TIMES).value, model(TOKENS, TIMES, torch.tensor([3, 3])).value)


@pytest.mark.parametrize("kind", [{"condition_width": 5}, {"classes": 3, "convolutional_feedforward": True}])
def test_checkpointing_changes_the_memory_and_nothing_else(kind: dict[str, int]) -> None:
    """Invariance: the same bytes of loss and gradients; fewer numbers kept for the backward pass."""
    torch.manual_seed(0)
    model = TokenTransformer(**SMALL, **kind)
    condition = torch.randn(2, 4, 5) if "condition_width" in kind else torch.tensor([0, 2])
    gradients, kept = [], []
    for model.checkpointing in (False, True):
        saved: list[torch.Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, saved=saved: (saved.append(x), x)[1], lambda x: x):
            value = model(TOKENS, TIMES, condition).value
        gradients.append(torch.autograd.grad(value.square().sum(), tuple(model.parameters()), allow_unused=True))
        kept.append(sum(x.numel() for x in saved))
    assert all(a is b or torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert kept[1] < kept[0] / 2
    assert "checkpointing" not in model._hub_mixin_config


COMPILED = """
import torch
from discrete_diffusion import TokenTransformer

tokens, times = torch.arange(24).reshape(2, 12) % 12, torch.tensor([1, 10])
for kind in ({"condition_width": 5}, {"classes": 3, "class_in_time": True}, {"classes": 3, "convolution": True}):
    torch.manual_seed(0)
    model = TokenTransformer(codes=11, grid=(3, 4), steps=10, width=16, depth=2, heads=2, **kind)
    condition = torch.randn(2, 4, 5) if "condition_width" in kind else torch.tensor([0, 2])
    for model.checkpointing in (False, True):
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        ours, theirs = model(tokens, times, condition), compiled(tokens, times, condition)
        torch.testing.assert_close(theirs.value, ours.value)
        torch.testing.assert_close(theirs.features, ours.features)
        gradients = [torch.autograd.grad(one.value.square().sum(), model.tokens.weight)[0] for one in (ours, theirs)]
        torch.testing.assert_close(*gradients)
    print("one graph")
"""


@pytest.mark.slow
def test_it_is_one_graph() -> None:
    """Compiled without a break, forward and backward, it does what it does uncompiled.

    In a process of its own, in which no types are checked: these checks cannot be compiled.
    """
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert done.stdout.split("\n") == ["one graph"] * 3 + [""], done.stderr


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
    with pytest.raises(ValueError, match=r"x_t: expected values in 0..11, the mask being the last; got 0..12"):
        model(TOKENS.masked_fill(TOKENS == 11, 12), TIMES)
    with pytest.raises(ValueError, match=r"x_t: expected values in 0..11, the mask being the last; got -1"):
        model(TOKENS - 1, TIMES)
    for t in (0, 11):
        with pytest.raises(ValueError, match=r"t: expected values in 1..10, t = 0 being clean"):
            model(TOKENS, torch.tensor([1, t]))
    with pytest.raises(ValueError, match=r"t: expected \(2,\) times for 2 examples, got \(1,\)"):
        model.check(TOKENS, TIMES[:1], None)
    with pytest.raises(ValueError, match="condition: 3 for 2 examples"):
        model.check(TOKENS, TIMES, torch.zeros(3, 4, 5))
    for label in (-1, 5):
        with pytest.raises(ValueError, match=r"condition: expected values in 0..4, the last meaning none"):
            TokenTransformer(**SMALL, classes=4)(TOKENS, TIMES, torch.tensor([0, label]))
    with pytest.raises(ValueError, match="class_in_time needs classes"):
        TokenTransformer(**SMALL, class_in_time=True)
    with pytest.raises(ValueError, match=r"condition: expected \(b, l, 5\)"):
        model(TOKENS, TIMES, torch.zeros(2, 4, 6))
    with pytest.raises(ValueError, match="unconditional"):
        TokenTransformer(**SMALL)(TOKENS, TIMES, torch.zeros(2, 4, 5))
    with pytest.raises(ValueError, match=r"expected \(b,\) labels"):
        TokenTransformer(**SMALL, classes=4)(TOKENS, TIMES, torch.zeros(2, 4, 5))
    with pytest.raises(ValueError, match="states. or classes .labels., not both"):
        TokenTransformer(**SMALL, classes=4, condition_width=5)
    with pytest.raises(ValueError, match=r"position_grid \(1, 2\) has fewer positions than the grid"):
        TokenTransformer(**SMALL, position_grid=(1, 2))
    with pytest.raises(ValueError, match="multiple of heads"):
        TokenTransformer(**{**SMALL, "heads": 3})
    with pytest.raises(ValueError, match="has 6 null states, the condition has 4"):
        TokenTransformer(**SMALL, condition_width=5, null_length=6).null_condition(2, 4)

import pytest
import torch

from context_prediction import ContextPrediction, as_grid, as_tokens


@pytest.mark.parametrize("grid", [(7,), (3, 4), (1, 5), (2, 3, 4)], ids=str)
def test_a_token_stands_at_its_row_major_place(grid):
    tokens = torch.randn(2, torch.Size(grid).numel(), 5)
    laid = as_grid(tokens, *grid)
    assert laid.shape == (2, 5, *grid) and laid.data_ptr() == tokens.data_ptr()
    for n, unit in enumerate(torch.cartesian_prod(*map(torch.arange, grid)).reshape(-1, len(grid)).tolist()):
        assert torch.equal(laid[(slice(None), slice(None), *unit)], tokens[:, n])
    assert torch.equal(as_tokens(laid), tokens)


def test_a_transformer_trains_through_its_grid(generator):
    """The gradient of a hidden state is that of the unit it stands at."""
    hidden, codes = torch.randn(2, 12, 8, requires_grad=True), torch.randn(2, 12, 3)
    context = ContextPrediction(features=8, target=3, stride=1)
    result = context(as_grid(hidden, 3, 4), as_grid(codes, 3, 4), generator=generator)
    result.units[1, 2, 3].backward()
    assert hidden.grad is not None and hidden.grad.abs().sum(2).nonzero().tolist() == [[1, 11]]


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: as_grid(torch.zeros(2, 17, 8), 4, 4),
            r"\(2, 17, 8\) has n = 17 .* grid \(4, 4\) has 16; .* leave class, register and text tokens out$",
        ),
        (lambda: as_grid(torch.zeros(2, 16, 8), -4, -4), "give the grid of the sequence"),
        (lambda: as_grid(torch.zeros(2, 16, 8)), "give the grid of the sequence"),
        (lambda: as_grid(torch.zeros(2, 16), 4, 4), r"shape \(2, 16\).*code vectors"),
        (lambda: as_tokens(torch.zeros(2, 16)), r"shape \(2, 16\).*on a grid"),
    ],
)
def test_bad_shapes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

import pytest
import torch

from discrete_diffusion.imagebart.linear import Linear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (4, 1), (2, 4), (9, 1), (3, 5)])
def test_few_rows_give_what_many_rows_give(shape: tuple[int, int], bias: bool) -> None:
    """Oracle: torch's own product, its value and its gradients."""
    torch.manual_seed(0)
    layer, x = Linear(7, 5, bias=bias).double(), torch.randn(*shape, 7, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.linear(x, layer.weight, layer.bias)
    found = layer(x)
    torch.testing.assert_close(found, expected, atol=1e-14, rtol=0)
    weights = [x, *layer.parameters()]
    pairs = zip(
        torch.autograd.grad(found.square().sum(), weights),
        torch.autograd.grad(expected.square().sum(), weights),
        strict=True,
    )
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, atol=1e-13, rtol=0)

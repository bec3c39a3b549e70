"""Compile a distance in one graph, and compare its values and gradients: `test_assignment`."""

import sys

import torch

from context_prediction import wasserstein

if __name__ == "__main__":
    for q in map(int, sys.argv[1:]):
        a, b = torch.randn(2, 30, q, 3, generator=torch.Generator().manual_seed(q))
        eager, compiled = a.clone().requires_grad_(), a.clone().requires_grad_()
        expected = wasserstein(eager, b)
        expected.sum().backward()
        found = torch.compile(wasserstein, backend="eager", fullgraph=True)(compiled, b)
        found.sum().backward()
        assert torch.equal(found, expected)
        assert torch.equal(compiled.grad, eager.grad)

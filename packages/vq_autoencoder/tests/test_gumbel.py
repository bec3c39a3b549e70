import math

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from vq_autoencoder import GumbelQuantizer


@pytest.fixture
def module() -> GumbelQuantizer:
    torch.manual_seed(0)
    return GumbelQuantizer(codes=5, width=3, prior_weight=0.1).double()


def latents(b: int = 2) -> torch.Tensor:
    return torch.randn(b, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_draws_have_the_probabilities_of_the_logits(module):
    """Checks: Gumbel-softmax straight-through estimator"""
    same = torch.ones(1, 3, 1, 1, dtype=torch.float64).expand(1, 3, 200, 200)
    drawn = module.draw(same, generator=torch.Generator().manual_seed(1))
    expected = torch.softmax(module.proj(same[:, :, :1, :1]).flatten(), dim=0)
    frequencies = torch.bincount(drawn.flatten(), minlength=5) / drawn.numel()
    assert (frequencies - expected).abs().max() < 4 * math.sqrt(0.25 / drawn.numel())


def test_training_decodes_one_code_with_the_gradient_of_the_relaxation(module):
    """Checks: Gumbel-softmax straight-through estimator"""
    logits = module.proj(latents()).detach()
    noise = torch.rand_like(logits)
    hard, soft = (logits.clone().requires_grad_() for _ in range(2))
    module.temperature = 0.7
    chosen = module.train().choose(hard, noise)
    torch.testing.assert_close(chosen.vectors, module.lookup(chosen.indices))
    weight = torch.randn_like(chosen.vectors)
    (chosen.vectors * weight).sum().backward()
    relaxed = torch.einsum("bkhw,kd->bdhw", torch.softmax((soft + noise) / 0.7, dim=1), module.codebook)
    (relaxed * weight).sum().backward()
    torch.testing.assert_close(hard.grad, soft.grad)
    module.straight_through = False
    torch.testing.assert_close(module.choose(soft, noise).vectors, relaxed)


def test_prior_is_the_divergence_from_uniform(module):
    z = latents()
    quantised = module.eval()(z)
    probabilities = torch.softmax(module.proj(z), dim=1).permute(0, 2, 3, 1)
    uniform = Categorical(torch.full_like(probabilities, 0.2))
    expected = kl_divergence(Categorical(probabilities), uniform).mean(dim=(1, 2))
    torch.testing.assert_close(quantised.terms["prior"], 0.1 * expected)


def test_evaluation_draws_nothing_and_training_what_the_generator_says(module):
    z = latents()
    assert torch.equal(module.eval()(z).indices, module.nearest(z))
    first, second, other = (
        module.train()(z, generator=torch.Generator().manual_seed(seed)).indices for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"codes": 0}, "at least 1"), ({"temperature": 0.0}, "above 0"), ({"prior_weight": -1.0}, "not negative")],
)
def test_refuses_settings_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        GumbelQuantizer(**({"codes": 4, "width": 2} | arguments))

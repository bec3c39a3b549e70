import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from vq_autoencoder import DiagonalGaussian


@pytest.fixture
def posterior() -> DiagonalGaussian:
    moments = torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return DiagonalGaussian.from_moments(moments)


def reference(posterior: DiagonalGaussian) -> Independent:
    return Independent(Normal(posterior.mean, posterior.log_variance.div(2).exp()), 3)


def test_divergence_and_likelihood_equal_those_of_torch_distributions(posterior):
    """Checks: LDM KL regularisation"""
    standard = Independent(Normal(torch.zeros_like(posterior.mean), 1.0), 3)
    values = torch.randn_like(posterior.mean)
    assert torch.allclose(posterior.kl(), kl_divergence(reference(posterior), standard))
    assert torch.allclose(posterior.negative_log_likelihood(values), -reference(posterior).log_prob(values))


def test_divergence_is_zero_for_the_standard_normal_only():
    zero = torch.zeros(1, 2, 3, 3)
    assert DiagonalGaussian(zero, zero).kl().item() == 0
    assert DiagonalGaussian(zero + 0.1, zero).kl().item() > 0
    assert DiagonalGaussian(zero, zero - 0.1).kl().item() > 0


def test_log_variance_is_clamped():
    moments = torch.cat([torch.zeros(1, 1, 1, 2), torch.tensor([[[[-100.0, 100.0]]]])], dim=1)
    assert DiagonalGaussian.from_moments(moments).log_variance.flatten().tolist() == [-30.0, 20.0]


def test_samples_have_the_moments():
    mean, log_variance = torch.full((1, 1, 200, 200), 0.7), torch.full((1, 1, 200, 200), -1.2)
    sample = DiagonalGaussian(mean, log_variance).sample(generator=torch.Generator().manual_seed(0))
    assert sample.mean().item() == pytest.approx(0.7, abs=0.01)
    assert sample.var().log().item() == pytest.approx(-1.2, abs=0.03)


def test_sample_depends_on_the_generator_alone(posterior):
    first, second = (posterior.sample(generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, posterior.sample(generator=torch.Generator().manual_seed(4)))


def test_refuses_an_odd_number_of_channels():
    with pytest.raises(ValueError, match="even number of channels.*got 3"):
        DiagonalGaussian.from_moments(torch.zeros(1, 3, 2, 2))


@pytest.mark.parity
def test_equals_the_official_gaussian(golden):
    """Checks: LDM KL regularisation"""
    io = golden("ldm_autoencoder_kl").io
    posterior = DiagonalGaussian.from_moments(io["moments"])
    assert torch.equal(posterior.mean, io["mean"])
    assert torch.equal(posterior.log_variance, io["logvar"])
    torch.testing.assert_close(posterior.kl(), io["kl_per_sample"], rtol=2e-5, atol=0)
    torch.testing.assert_close(posterior.negative_log_likelihood(io["sample"]), io["nll_of_sample"], rtol=2e-5, atol=0)

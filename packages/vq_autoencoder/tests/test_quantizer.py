import math
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from vq_autoencoder import VectorQuantizer, nearest, nearest_code, perplexity, usage
from vq_autoencoder.codes import check_tokens


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=30)
@given(
    n=st.integers(1, 40),
    k=st.integers(1, 20),
    d=st.integers(1, 6),
    at_once=st.integers(1, 200),
    seed=st.integers(0, 99),
)
def test_nearest_code_equals_brute_force_for_any_block(n, k, d, at_once, seed):
    """Checks: VQGAN quantisation"""
    latents, codebook = torch.randn(n + k, d, generator=seeded(seed), dtype=torch.float64).split([n, k])
    brute = (latents[:, None] - codebook[None]).square().sum(dim=2).argmin(dim=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "DISTANCES_AT_ONCE", at_once)
        assert torch.equal(nearest_code(latents, codebook), brute)


@settings(deadline=None, max_examples=30)
@given(groups=st.integers(4, 6), n=st.integers(1, 5), seed=st.integers(0, 99), values=st.integers(1, 50))
def test_lowest_in_two_steps_is_the_first_minimum(groups, n, seed, values):
    """Few different values, so that there are ties within groups and between them."""
    table = torch.randint(values, (n, 64 * groups), generator=seeded(seed)).float()
    first = [row.index(min(row)) for row in table.tolist()]
    assert nearest.lowest(table).tolist() == first


def test_cosine_codes_are_those_of_the_least_angle():
    """Checks: ViT-VQGAN normalised codes"""
    torch.manual_seed(0)
    module = VectorQuantizer(codes=7, width=3, cosine=True)
    latents = torch.randn(2, 3, 4, 4, generator=seeded())
    quantised = module(latents)
    angles = F.cosine_similarity(latents.permute(0, 2, 3, 1)[..., None, :], module.codebook, dim=4)
    assert torch.equal(quantised.indices, angles.argmax(dim=3))
    torch.testing.assert_close(quantised.vectors.norm(dim=1), torch.ones(2, 4, 4))
    torch.testing.assert_close(module.codes, module.codebook / module.codebook.norm(dim=1, keepdim=True))
    scaled = module(latents * 5)
    assert torch.equal(scaled.indices, quantised.indices)
    torch.testing.assert_close(scaled.terms, quantised.terms)
    closed = 0.25 * (2 - 2 * angles.amax(dim=3)).mean(dim=(1, 2)) / 3
    torch.testing.assert_close(quantised.terms["commitment"], closed)


def test_cosine_codes_follow_the_mean_direction():
    module = VectorQuantizer(codes=1, width=2, ema_decay=0.0, cosine=True)
    latents = torch.tensor([[3.0, 0.0], [0.0, 0.5]]).T.reshape(1, 2, 1, 2)
    module(latents)
    torch.testing.assert_close(module.codes, torch.tensor([[0.5, 0.5]]).sqrt())


def test_codes_quantise_to_themselves_and_a_tie_goes_to_the_lowest():
    codebook = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    assert nearest_code(codebook, codebook).tolist() == [0, 1, 2, 1]


def test_gradient_passes_straight_through():
    """Checks: VQGAN quantisation"""
    torch.manual_seed(0)
    module = VectorQuantizer(codes=5, width=3)
    latents = torch.randn(2, 3, 4, 4, requires_grad=True)
    quantised = module(latents)
    weight = torch.randn_like(latents)
    (quantised.vectors * weight).sum().backward()
    assert torch.equal(latents.grad, weight)
    assert module.codebook.grad is None
    assert torch.allclose(quantised.vectors, module.lookup(quantised.indices), atol=1e-6)


@pytest.mark.parametrize(("codebook_weight", "commitment_weight"), [(1.0, 0.25), (0.25, 1.0), (0.0, 2.0)])
def test_each_weight_stands_on_its_own_term(codebook_weight, commitment_weight):
    """Gradients in closed form: `2 w_commit (z - e) / n` at the latents, `2 w_code (e - z) / n` at the codes.

    Checks: VQGAN codebook loss
    Checks: LDM VQ regularisation
    """
    module = VectorQuantizer(codes=1, width=2, codebook_weight=codebook_weight, commitment_weight=commitment_weight)
    latents = torch.tensor([3.0, -1.0]).view(1, 2, 1, 1).requires_grad_()
    with torch.no_grad():
        module.codebook.copy_(torch.tensor([[1.0, 1.0]]))
    terms = module(latents).terms
    assert terms["codebook"].item() == pytest.approx(codebook_weight * (4 + 4) / 2)
    assert terms["commitment"].item() == pytest.approx(commitment_weight * (4 + 4) / 2)
    (terms["codebook"] + terms["commitment"]).sum().backward()
    assert torch.allclose(latents.grad.flatten(), commitment_weight * torch.tensor([2.0, -2.0]))
    assert torch.allclose(module.codebook.grad, codebook_weight * torch.tensor([[-2.0, 2.0]]))


def test_terms_are_per_example():
    torch.manual_seed(0)
    module = VectorQuantizer(codes=4, width=3).eval()
    latents = torch.randn(3, 3, 2, 2)
    together = module(latents).terms
    for index in range(3):
        alone = module(latents[index : index + 1]).terms
        for name, term in together.items():
            assert torch.allclose(alone[name][0], term[index])


def test_moving_averages_follow_their_recursion():
    """Against a plain Python loop over steps and codes.

    Checks: VQ-VAE moving average codebook
    """
    torch.manual_seed(0)
    decay, module = 0.7, VectorQuantizer(codes=4, width=2, ema_decay=0.7).double()
    codes = module.codebook.detach().clone()
    counts, sums = [1.0] * 4, [code.clone() for code in codes]
    for step in range(5):
        latents = torch.randn(2, 2, 3, 3, generator=seeded(step), dtype=torch.float64)
        rows = latents.permute(0, 2, 3, 1).reshape(-1, 2)
        nearest = [(row - codes).square().sum(dim=1).argmin().item() for row in rows]
        for k in range(4):
            mine = [row for row, index in zip(rows, nearest, strict=True) if index == k]
            counts[k] = decay * counts[k] + (1 - decay) * len(mine)
            sums[k] = decay * sums[k] + (1 - decay) * sum(mine, torch.zeros(2, dtype=torch.float64))
            codes[k] = sums[k] / counts[k]
        quantised = module(latents)
        assert set(quantised.terms) == {"commitment"}
    assert torch.allclose(module.codebook.detach(), codes)
    assert not module.codebook.requires_grad


@pytest.mark.parametrize("arguments", [{}, {"ema_decay": 0.9}, {"ema_decay": 0.9, "revival_threshold": 2.0}])
def test_evaluation_changes_nothing(arguments):
    torch.manual_seed(0)
    module = VectorQuantizer(codes=4, width=2, **arguments).eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module(torch.randn(2, 2, 3, 3))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_a_dead_code_is_drawn_again_from_the_batch(ema_decay):
    module = VectorQuantizer(codes=3, width=2, ema_decay=ema_decay, revival_threshold=0.9)
    with torch.no_grad():
        module.codebook.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0], [99.0, 99.0]]))
    if ema_decay is not None:
        module.sums.copy_(module.codebook)
    latents = torch.tensor([[0.1, 0.0], [1.0, 0.9], [0.0, 0.2], [1.2, 1.0]]).T.reshape(1, 2, 2, 2)
    module.usage.copy_(torch.tensor([5.0, 5.0, 0.1]))
    module(latents, generator=seeded())
    drawn = module.codebook[2].detach()
    assert any(torch.equal(drawn, row) for row in latents.permute(0, 2, 3, 1).reshape(-1, 2))
    assert module.usage[2] == 1.0
    assert module.usage[:2].min() > 3
    if ema_decay is not None:
        assert torch.equal(module.sums[2], drawn)


def test_revival_uses_every_code_where_plain_training_uses_few():
    """Codes start far from the data, so that one of them takes all."""
    data = torch.randn(4, 2, 8, 8, generator=seeded()) + 50
    used = {}
    for threshold in (0.0, 0.5):
        torch.manual_seed(0)
        module = VectorQuantizer(codes=8, width=2, ema_decay=0.8, revival_threshold=threshold)
        for step in range(30):
            indices = module(data, generator=seeded(step)).indices
        used[threshold] = int((usage(indices, 8) > 0).sum())
    assert used == {0.0: 1, 0.5: 8}


def test_initial_codes_are_distinct_latents():
    module = VectorQuantizer(codes=6, width=2, ema_decay=0.9)
    latents = torch.randn(2, 2, 3, 3, generator=seeded())
    module.initialise(latents, generator=seeded(1))
    rows = {tuple(row.tolist()) for row in latents.permute(0, 2, 3, 1).reshape(-1, 2)}
    codes = {tuple(code.tolist()) for code in module.codebook}
    assert len(codes) == 6
    assert codes <= rows
    assert torch.equal(module.sums / module.usage[:, None], module.codebook.detach())


def test_initialises_from_fewer_latents_than_codes():
    module = VectorQuantizer(codes=6, width=2)
    latents = torch.randn(1, 2, 1, 2, generator=seeded())
    module.initialise(latents, generator=seeded(1))
    assert len({tuple(code.tolist()) for code in module.codebook}) == 2


def test_quantises_in_full_precision_under_autocast():
    torch.manual_seed(0)
    module = VectorQuantizer(codes=64, width=8).eval()
    latents = torch.randn(2, 8, 4, 4) / 64
    plain = module(latents)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = module(latents)
    assert torch.equal(mixed.indices, plain.indices)
    assert mixed.terms["commitment"].dtype == torch.float32


def test_perplexity_and_usage_of_known_distributions():
    even = torch.arange(8).view(2, 2, 2)
    assert perplexity(even, 8).item() == pytest.approx(8)
    assert perplexity(torch.zeros_like(even), 8).item() == pytest.approx(1)
    skewed = torch.tensor([0, 0, 0, 1]).view(1, 2, 2)
    assert usage(skewed, 3).tolist() == [0.75, 0.25, 0.0]
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert perplexity(skewed, 3).item() == pytest.approx(math.exp(entropy))


def test_refuses_what_is_no_token():
    tokens = torch.tensor([[[0, 4]]])
    with pytest.raises(ValueError, match=r"indices must lie in 0..3, got 0..4; the mask token 4 has no code"):
        VectorQuantizer(codes=4, width=2).lookup(tokens)
    with pytest.raises(ValueError, match="got -1..0"):
        usage(tokens.clamp(max=0) - torch.tensor([0, 1]), 4)
    with pytest.raises(ValueError, match="at least one token"):
        usage(tokens[:0], 4)
    with pytest.raises(TypeError, match=r"int64, got torch.float32"):
        check_tokens(tokens.float(), 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"codes": 0}, "at least 1"),
        ({"ema_decay": 1.0}, r"\[0, 1\), got 1.0"),
        ({"codebook_weight": -1.0}, "not be negative"),
    ],
)
def test_refuses_settings_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        VectorQuantizer(**({"codes": 4, "width": 2} | arguments))


def test_two_ranks_keep_the_codebook_of_one(tmp_path):
    """Each rank sees half of every batch; with and without revival that is the same as one rank that sees it all."""
    program = Path(__file__).with_name("follow_codes.py")
    ranks = [subprocess.Popen([sys.executable, program, str(rank), str(tmp_path)]) for rank in range(2)]
    alone = runpy.run_path(str(program))["follow_all"]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name, value in alone(slice(None)).items():
        torch.testing.assert_close(first[name], value, atol=1e-6, rtol=0)
    assert not torch.equal(first["revived.codebook"], first["plain.codebook"])


@pytest.mark.parity
@pytest.mark.parametrize("legacy", [True, False])
def test_loss_and_gradients_equal_those_of_taming(golden, legacy):
    """Checks: VQGAN codebook loss, quantisation"""
    case = golden("taming_vqgan")
    io, beta = case.io, case.constructor["vqmodel"]["beta"]
    weights = (beta, 1.0) if legacy else (1.0, beta)
    module = VectorQuantizer(codes=80, width=8, codebook_weight=weights[0], commitment_weight=weights[1])
    with torch.no_grad():
        module.codebook.copy_(case.weights()["quantize.embedding.weight"])
    latents = io["h"].clone().requires_grad_()
    quantised = module(latents)
    loss = sum(term.mean() for term in quantised.terms.values())
    ramp = torch.linspace(-1, 1, quantised.vectors.numel()).reshape(quantised.vectors.shape)
    (loss + (quantised.vectors * ramp).sum()).backward()
    name = str(legacy).lower()
    assert torch.equal(quantised.indices, io["indices"])
    torch.testing.assert_close(quantised.vectors, io["quant"], rtol=0, atol=1e-6)
    torch.testing.assert_close(loss, io[f"embed_loss_legacy_{name}"], rtol=1e-6, atol=0)
    torch.testing.assert_close(latents.grad, io[f"grad_z_legacy_{name}"], rtol=0, atol=1e-6)
    torch.testing.assert_close(module.codebook.grad, io[f"grad_codebook_legacy_{name}"], rtol=0, atol=1e-6)
    torch.testing.assert_close(perplexity(quantised.indices, 80), io["perplexity"], rtol=2e-5, atol=0)


@pytest.mark.parity
def test_perplexity_equals_that_of_the_official_logger(golden):
    io = golden("mask_and_vqgan_losses").io
    indices = io["perplexity_indices"][None]
    k = int(indices.max()) + 1
    torch.testing.assert_close(perplexity(indices, k), io["perplexity"], rtol=2e-5, atol=0)
    assert int((usage(indices, k) > 0).sum()) == io["cluster_use"].item()

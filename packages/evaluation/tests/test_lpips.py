"""LPIPS against the official modules, its definition and its invariances."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from diffusion_evaluation import ALEX, LPIPS, SQUEEZE, VGG, Trunk, lpips_from_state_dicts

SHARED = Path(__file__).resolve().parents[3].parent / "shared"
GOLDEN = SHARED / "reference" / "golden" / "lpips_arch"
HEADS = SHARED / "data" / "weights_lpips_lin"
TRUNKS = {"alex": ALEX, "vgg": VGG, "squeeze": SQUEEZE}


def seeded(trunk: Trunk, seed: int = 0) -> LPIPS:
    generator = torch.Generator().manual_seed(seed)
    model = LPIPS(trunk)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            drawn = torch.randn(weight.shape, generator=generator)
            weight.copy_(drawn.abs() if name.startswith("heads") else drawn * (2 / max(weight[0].numel(), 9)) ** 0.5)
    return model.eval()


def images(count: int, side: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def formula_weights(entries: list[tuple[str, list[int], str]], k0: int) -> dict[str, torch.Tensor]:
    """The weights that the golden case prescribes instead of storing them: hashes of their indices."""
    weights = {}
    for k, (name, shape, kind) in enumerate(entries):
        if kind == "fixed":
            continue
        with np.errstate(over="ignore"):
            x = np.arange(math.prod(shape), dtype=np.uint32) + np.uint32((k + k0) * 0x9E3779B9 % 2**32)
            for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
                x ^= x >> np.uint32(shift)
                x *= np.uint32(factor)
        u = (x / 2**32).reshape(shape)
        r = (u - 0.5) * 12**0.5
        values = {
            "conv": r * (2 / (math.prod(shape) / shape[0])) ** 0.5,
            "bias": 0.1 * r,
            "lin": 2 * u / shape[min(1, len(shape) - 1)],
        }[kind]
        weights[name] = torch.from_numpy(values.astype(np.float32))
    return weights


def test_equals_its_definition_place_by_place() -> None:
    """Checks: LPIPS distance"""
    model = seeded(SQUEEZE)
    x, y = (images(1, 24, seed).float() / 127.5 - 1 for seed in (0, 1))
    terms = model.terms(x, y)[0]
    ours, theirs = ((side - model.shift) / model.scale for side in (x, y))
    for index, layer in enumerate(model.features):
        ours, theirs = layer(ours), layer(theirs)
        if index not in SQUEEZE.taps:
            continue
        tap = SQUEEZE.taps.index(index)
        total, (height, width) = 0.0, ours.shape[-2:]
        for i, j in ((i, j) for i in range(height) for j in range(width)):
            a, b = ours[0, :, i, j].double(), theirs[0, :, i, j].double()
            difference = a / (a.norm() + 1e-10) - b / (b.norm() + 1e-10)
            total += (model.heads[tap].weight.flatten() * difference.square()).sum().item()
        assert terms[tap].item() == pytest.approx(total / (height * width), rel=1e-4)


@pytest.mark.parametrize("trunk", TRUNKS.values(), ids=list(TRUNKS))
def test_is_a_symmetric_distance_per_pair_down_to_the_smallest_image(trunk: Trunk) -> None:
    model, side = seeded(trunk), trunk.smallest
    x, y = (images(2, side, seed).float() / 127.5 - 1 for seed in (0, 1))
    distances = model(x, y)
    assert distances.shape == (2,)
    assert (distances > 0).all()
    torch.testing.assert_close(model(y, x), distances)
    torch.testing.assert_close(model(x[1:], y[1:]), distances[1:], rtol=1e-5, atol=1e-7)
    assert model(x, x).eq(0).all()
    with pytest.raises(ValueError, match=rf"LPIPS\[{trunk.name}\] needs sides of {side} pixels at least"):
        model(x[..., 1:], y[..., 1:])


def test_gradients_are_finite_where_features_vanish() -> None:
    model = seeded(SQUEEZE)
    with torch.no_grad():
        for parameter in model.features.parameters():
            parameter.zero_()
    x = torch.zeros(1, 3, 24, 24, requires_grad=True)
    model(x, torch.ones(1, 3, 24, 24)).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_the_score_is_the_mean_over_pairs_and_knows_its_weights() -> None:
    real, fake, model = images(35, 17, 0), images(35, 17, 1), seeded(SQUEEZE)
    score = model.score(real, fake)
    distances = model(real.float() / 127.5 - 1, fake.float() / 127.5 - 1)
    assert score.value == pytest.approx(distances.mean().item(), rel=1e-6)
    assert str(score).startswith("LPIPS[squeeze, N=35/35] ")
    with pytest.raises(ValueError, match="cannot be compared: space"):
        score - seeded(SQUEEZE, 1).score(real, fake)
    with pytest.raises(ValueError, match="pairs need equal counts, got 35 real and 2 fake images"):
        model.score(real, fake[:2])
    with pytest.raises(ValueError, match=r"pairs are \(b, 3, H, W\) twice, got \(1, 3, 20, 20\) and \(2, 3, 20, 20\)"):
        model(torch.zeros(1, 3, 20, 20), torch.zeros(2, 3, 20, 20))


def official(model: LPIPS) -> dict[str, torch.Tensor]:
    """The weights under torchvision's and the official repository's names."""
    state = model.state_dict()
    heads = {f"lin{i}.model.1.weight": state[f"heads.{i}.weight"] for i in range(len(model.heads))}
    return heads | {key: value for key, value in state.items() if key.startswith("features.")}


@pytest.mark.parametrize("trunk", TRUNKS.values(), ids=list(TRUNKS))
def test_reads_a_trunk_of_torchvision_and_official_heads(trunk: Trunk) -> None:
    model = seeded(trunk)
    weights = official(model) | {"classifier.1.weight": torch.zeros(10, 2)}
    trunk_alone = {key: value for key, value in weights.items() if not key.startswith("lin")}
    heads_alone = {key: value for key, value in weights.items() if key.startswith("lin")}
    read = lpips_from_state_dicts(trunk, trunk_alone, heads_alone)
    for name, value in model.state_dict().items():
        assert torch.equal(read.state_dict()[name], value)
    assert not read.training
    assert not any(weight.requires_grad for weight in read.parameters())


def test_wrong_weights_are_named() -> None:
    weights = official(seeded(SQUEEZE))
    without = {key: value for key, value in weights.items() if key != "lin3.model.1.weight"}
    with pytest.raises(ValueError, match=r"weights of a squeeze trunk and its heads: heads\.3\.weight is missing"):
        lpips_from_state_dicts(SQUEEZE, without)
    with pytest.raises(ValueError, match=r"fc\.weight is no weight of LPIPS\[squeeze\]"):
        lpips_from_state_dicts(SQUEEZE, weights | {"fc.weight": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"lin0.model.1.weight is \(1, 3, 1, 1\), not \(1, 64, 1, 1\)"):
        lpips_from_state_dicts(SQUEEZE, weights | {"lin0.model.1.weight": torch.zeros(1, 3, 1, 1)})
    with pytest.raises(ValueError, match=r"lins\.0\.model\.1\.weight comes twice, with different values"):
        lpips_from_state_dicts(SQUEEZE, weights, {"lins.0.model.1.weight": torch.zeros(1, 64, 1, 1)})
    with pytest.raises(ValueError, match="; and 49 more"):
        lpips_from_state_dicts(SQUEEZE, {})


@pytest.mark.parity
@pytest.mark.skipif(not GOLDEN.exists(), reason="the golden files of the official implementation are not here")
@pytest.mark.parametrize("name", list(TRUNKS))
def test_the_official_implementation(name: str) -> None:
    """Distances, parts and features, with stored weights (squeeze) and prescribed ones (vgg, alex).

    Checks: LPIPS distance
    """
    tensors = load_file(GOLDEN / "io.safetensors")
    config = json.loads((GOLDEN / "config.json").read_text())
    if name == "squeeze":
        weights = load_file(GOLDEN / "weights.safetensors")
    else:
        weights = formula_weights(config["formula_tensors"][name], config["k0"])
    model = lpips_from_state_dicts(TRUNKS[name], weights)
    first, second = tensors["in0"], tensors["in1"]
    torch.testing.assert_close(model(first, second), tensors[f"{name}.distance"], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(model.terms(first, second), tensors[f"{name}.per_layer"], rtol=1e-5, atol=1e-7)


@pytest.mark.parity
@pytest.mark.skipif(not HEADS.exists(), reason="the official heads are not here")
@pytest.mark.parametrize("trunk", TRUNKS.values(), ids=list(TRUNKS))
def test_the_official_heads_fit(trunk: Trunk) -> None:
    heads = load_file(HEADS / f"v0.1__{trunk.name}.safetensors")
    read = lpips_from_state_dicts(trunk, {k: v for k, v in official(seeded(trunk)).items() if "lin" not in k}, heads)
    for index, head in enumerate(read.heads):
        assert torch.equal(head.weight, heads[f"lin{index}.model.1.weight"])
        assert (head.weight >= 0).all()

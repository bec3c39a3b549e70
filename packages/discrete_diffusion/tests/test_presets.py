"""Parameter counts: by a formula over the table of the papers, and the published ones."""

import pytest
import torch

from discrete_diffusion import PRESETS, ImportanceTimes, sample

# name: layers, d, MLP ratio, convolutional, codes, side of the grid, d_c of captions, classes
TABLE = {
    "s": (18, 192, 2, True, 2887, 32, 512, 0),
    "b": (19, 1024, 4, False, 2887, 32, 512, 0),
    "b-birds": (19, 1024, 4, False, 2887, 32, 512, 0),
    "b-guided": (19, 1024, 4, False, 2887, 32, 512, 0),
    "f": (19, 1024, 4, False, 2887, 32, 512, 0),
    "ithq": (36, 1408, 4, False, 4096, 32, 512, 0),
    "ithq-guided": (36, 1408, 4, False, 4096, 32, 512, 0),
    "ffhq": (20, 512, 4, True, 1024, 16, 0, 0),
    "imagenet": (24, 512, 4, True, 974, 16, 0, 1000),
}
NULL_STATES = {"b-guided": 77, "ithq-guided": 77}
SMALL = sorted(PRESETS.keys() - TABLE.keys())


def linear(a: int, b: int) -> int:
    return a * b + b


def count(layers, d, ratio, convolutional, codes, side, states, classes) -> int:
    """Parameters of the released networks, T = 100, without null states."""
    adaptive = 100 * d + linear(d, 2 * d)
    attention = 4 * linear(d, d)
    cross = adaptive + 2 * linear(d, d) + 2 * linear(states, d) if states else 0
    last_norm = classes * d + linear(d, 2 * d) if classes else 2 * d
    taps = 9 if convolutional else 1
    mlp = linear(taps * d, ratio * d) + linear(taps * ratio * d, d)
    embeddings = (codes + 1 + 2 * side) * d
    return layers * (adaptive + attention + cross + last_norm + mlp) + embeddings + 2 * d + linear(d, codes)


@pytest.mark.parametrize("name", TABLE)
def test_published_networks_have_exactly_their_parameters(name: str) -> None:
    """Checks: VQ-Diffusion model sizes"""
    with torch.device("meta"):
        denoiser = PRESETS[name].build()
    null = 512 * NULL_STATES.get(name, 0)
    assert sum(p.numel() for p in denoiser.parameters()) == count(*TABLE[name]) + null


def test_published_counts() -> None:
    """What the papers say, in 2^20 and 2^30, and what the released configuration of B builds, in millions.

    Checks: VQ-Diffusion model sizes
    """
    assert round(count(*TABLE["s"]) / 2**20) == 34
    assert int(count(*TABLE["b"]) / 2**20) == 370
    assert round(count(*TABLE["ithq"]) / 2**30, 2) == 1.27
    assert round(count(*TABLE["b"]) / 1e6, 1) == 388.8
    assert round(count(*TABLE["s"]) / 1e6, 1) == 35.9


def test_published_recipes_differ_where_the_papers_say() -> None:
    """Oracle: the released configurations.

    Checks: VQ-Diffusion training recipe
    """
    recipes = {name: PRESETS[name].recipe for name in TABLE}
    assert {recipe.betas for recipe in recipes.values()} == {(0.9, 0.96)}
    assert {recipe.weight_decay for recipe in recipes.values()} == {0.045}
    assert {recipe.clip for recipe in recipes.values()} == {0.5}
    assert {name for name, recipe in recipes.items() if recipe.learning_rate == 2e-4} == {"b", "b-guided"}
    assert {name for name, recipe in recipes.items() if recipe.auxiliary_weight == 1e-3} == {"ffhq", "imagenet"}
    assert {name for name, recipe in recipes.items() if recipe.ema_interval == 10} == {"ffhq"}
    assert {name for name, recipe in recipes.items() if recipe.condition_dropout > 0} == {*NULL_STATES}
    assert {name: recipe.epochs for name, recipe in recipes.items()} == {
        "s": 800,
        "b": 100,
        "b-birds": 400,
        "b-guided": 100,
        "f": 100,
        "ithq": 50,
        "ithq-guided": 50,
        "ffhq": 300,
        "imagenet": 100,
    }


@pytest.mark.parametrize("name", SMALL)
def test_small_presets_train_and_sample(name: str) -> None:
    """The tokens are those of images of the side in the name, below K; class-conditional when built so."""
    torch.manual_seed(0)
    preset = PRESETS[name]
    factor, resolution = (int(part.lstrip("f")) for part in name.split("-")[1:])
    denoiser, process = preset.build(classes=3), preset.process()
    assert denoiser.grid == (resolution // factor,) * 2
    n, codes = denoiser.grid[0] ** 2, denoiser.codes
    objective = preset.objective(denoiser, process)
    assert isinstance(objective.times, ImportanceTimes)
    objective(torch.randint(codes, (2, n)), torch.tensor([0, 2])).loss.mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in denoiser.parameters())
    tokens = sample(denoiser, (1, n), torch.tensor([1]), process=process, steps=2)
    assert tokens.min() >= 0 and tokens.max() < codes

"""What the scales of ImageBART cost, for the plan."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from reproductions import costs
from reproductions.recipes.scale_recipes import Words
from reproductions.stages import conditions, denoising
from reproductions.stages.scale_denoising import Network, ScaleTraining, Training, network


def size(settings: ScaleTraining) -> Mapping[str, int]:
    """Size of a scale and its training, for the plan."""
    return denoising.size(partial(_shape_of, settings, settings.scale), settings.chain.training)


class Predicting(nn.Module):
    """A scale's network as `costs` calls it: the finer scale is an argument like the others."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None, target: Tensor) -> Any:
        return self.network(x_t, t, condition, target=target)


def cost(settings: ScaleTraining) -> costs.Size:
    """What training a scale costs."""
    build, example = partial(_shape_of, settings, settings.scale), partial(given, settings)
    return costs.training(build, example, settings.chain.training)


def sampling_cost(settings: denoising.Sampling) -> costs.Size:
    """What drawing costs: a pass through each scale, whose tokens are drawn one by one but computed once."""
    return drawing_cost(settings.training, settings.number)


def drawing_cost(training: Training, number: int, passes: int = 1) -> costs.Size:
    """What drawing so many examples costs, where every scale is gone through so many times."""
    chain, example = training.chain, partial(given, training)
    each = [
        costs.sampling(partial(_shape_of, training, t), example, samples=number, calls=passes, numbers=0)
        for t in range(1, chain.scales + 1)
    ]
    stored = number * math.prod(chain.arguments(1)["grid"]) * costs.STORED
    return {"flops": sum(size["flops"] for size in each), "stored bytes": stored}


def _shape_of(settings: Training, scale: int | None) -> Predicting:
    captions = settings.told.captions
    words = None if captions is None else Words(captions.vocabulary, captions.length)
    return Predicting(network(settings, scale, words))


def given(settings: Training) -> tuple[Any, ...]:
    """One example in shape alone: tokens, their scale, what is told, and the tokens that are predicted."""
    tokens = torch.zeros(1, math.prod(settings.chain.arguments(1)["grid"]), dtype=torch.int64)
    captions = settings.told.captions
    told = conditions.example(settings.told) if captions is None else tokens[:, :1].expand(1, captions.length)
    return tokens, torch.ones(1, dtype=torch.int64), told, tokens

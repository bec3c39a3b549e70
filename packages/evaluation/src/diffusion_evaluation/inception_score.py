"""The Inception Score: how sure a classifier is of each image, and how evenly it spreads them over its classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ._types import LogProbabilities, PerSplit, Rows
from .arrays import feature_rows
from .features import UNNAMED, Space
from .score import Score, normal_quantile
from .statistics import as_float64


def inception_score(
    logits: Rows,
    *,
    splits: int = 10,
    level: float = 0.95,
    space: Space = UNNAMED,
    generator: torch.Generator | None = None,
) -> Score:
    r"""The mean over splits of $\exp(\frac{1}{n} \sum_i \mathrm{KL}(p_i | \bar p))$: `IS[<space>, <splits> splits]`.

    `logits` is `(n, classes)`; from probabilities, give `log_probabilities(p)`. The rows are cut in order into splits
    of n / splits rows, after a shuffle when a `generator` is given: shuffle rows that are sorted by class. More rows in
    a split give a higher score, so the number of splits is part of the name. The interval is normal, with the standard
    error of the delta method: the influence of a row on the logarithm of its split's score is its own divergence less
    their mean. The published "plus-minus" is another thing: `split_scores(...).std(correction=0)`.

    Raises ValueError when there are fewer rows than splits.

    Source: Inception Score definition
    """
    rows = as_float64(feature_rows(logits, "logits"))
    if generator is not None:
        rows = rows[torch.randperm(len(rows), generator=generator).to(rows.device)]
    parts = _divergences(rows, splits)
    scores = [part.mean().exp().item() for part in parts]
    value = sum(scores) / splits
    name = f"IS[{space.name}, {splits} split{'s' if splits > 1 else ''}]"
    if min(map(len, parts)) < 2:
        return Score(name, value, None, len(rows), space=space)
    variances = [(score * part.std().item()) ** 2 / len(part) for score, part in zip(scores, parts, strict=True)]
    radius = normal_quantile(level) * math.sqrt(sum(variances)) / splits
    return Score(name, value, None, len(rows), value - radius, value + radius, space)


def split_scores(logits: Rows, *, splits: int = 10) -> PerSplit:
    """The Inception Score of each of `splits` consecutive parts of the logits `(n, classes)`: `(splits,)` float64.

    Source: Inception Score definition
    """
    parts = _divergences(as_float64(feature_rows(logits, "logits")), splits)
    return torch.stack([part.mean().exp() for part in parts])


def log_probabilities(probabilities: Rows) -> LogProbabilities:
    """The logarithms, in float64, of probabilities `(n, classes)`: logits of the same classifier.

    Zero becomes the logarithm of the smallest normal number, whose share in any entropy is below rounding.
    Raises ValueError, naming the first row, unless no probability is negative and every row adds up to 1 within 1e-3.
    """
    p = as_float64(feature_rows(probabilities, "probabilities"))
    wrong = ((p < 0).any(dim=1) | ((p.sum(dim=1) - 1).abs() > 1e-3)).nonzero().flatten()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"probabilities: {len(wrong)} rows are no distributions; row {row} has minimum {p[row].min():.4g} and sum "
            f"{p[row].sum():.4g}: give logits straight to inception_score"
        )
    return p.clamp_min(torch.finfo(torch.float64).tiny).log()


def _divergences(logits: Tensor, splits: int) -> list[Tensor]:
    """KL(p_i | mean of p over the split) of every row, split by split."""
    n = len(logits)
    if not 1 <= splits <= n:
        raise ValueError(f"splits must be between 1 and the {n} rows of logits, got {splits}")
    edges = [index * n // splits for index in range(splits + 1)]
    divergences = []
    for start, stop in zip(edges, edges[1:], strict=False):
        log_p = logits[start:stop].log_softmax(dim=1)
        log_mean = log_p.logsumexp(dim=0) - math.log(stop - start)
        divergences.append((log_p.exp() * (log_p - log_mean)).sum(dim=1))
    return divergences

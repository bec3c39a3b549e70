"""Feature spaces by name, features kept on disk, and scores of two sides by the names of metrics."""

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_evaluation import (
    CLEAN,
    LEGACY_PYTORCH,
    LEGACY_TENSORFLOW,
    FeatureStore,
    Manifold,
    Score,
    SmallSampleWarning,
    Statistics,
    bootstrap,
    clip_score,
    clip_space,
    clip_texts,
    cmmd,
    density_coverage,
    dinov2_space,
    frechet_distance,
    inception_space,
    kernel_distance,
    module_space,
    pixel_space,
    precision_recall,
    read_npz_statistics,
    unit_rows,
)
from diffusion_evaluation import EXPAND as EXPAND
from diffusion_evaluation import NARROW as NARROW
from diffusion_evaluation import REPAINT_MASKS as REPAINT_MASKS
from diffusion_evaluation import WIDE as WIDE
from diffusion_evaluation import FeatureSpace as FeatureSpace
from diffusion_evaluation import MaskKind as MaskKind
from diffusion_evaluation import draw_masks as draw_masks
from diffusion_evaluation import mean_score as mean_score
from diffusion_evaluation import proportion as proportion
from diffusion_evaluation import psnr as psnr
from diffusion_evaluation import resize_bytes as resize_bytes
from diffusion_evaluation import ssim as ssim
from reproductions.artefacts import Track
from reproductions.cifar_resnet import SIDE, cifar_resnet, layers

STATISTICS_SUFFIXES = (".npz", ".safetensors")
Batches = Iterable[tuple[list[int], Tensor]]


def cifar_space(weights: Path, side: int = 32) -> FeatureSpace:
    """The space of a CIFAR residual network for pictures of a side, called by the number of its layers."""
    network = cifar_resnet(weights)
    resized = "averaged" if side % SIDE == 0 else "interpolated"
    version = "1" if side == SIDE else f"1, {side} pixels {resized} to {SIDE}"
    return module_space(f"cifar-resnet{layers(network)}", network, version=version)


def small_space(weights: Path | None, side: int) -> FeatureSpace:
    """The space of a CIFAR residual network for pictures of a side, or without weights that of their pixels."""
    return pixel_space() if weights is None else cifar_space(weights, side)


SPACES: Mapping[str, Callable[[str | None], FeatureSpace]] = {
    "pixels": lambda _: pixel_space(),
    "inception": lambda weights: inception_space(weights, preparation=CLEAN),
    "inception-clean": lambda weights: inception_space(weights, preparation=CLEAN),
    "inception-legacy_tensorflow": lambda weights: inception_space(weights, preparation=LEGACY_TENSORFLOW),
    "inception-legacy_pytorch": lambda weights: inception_space(weights, preparation=LEGACY_PYTORCH),
    "clip": lambda weights: clip_space(weights) if weights else clip_space(),
    "dinov2": lambda weights: dinov2_space(weights) if weights else dinov2_space(),
}


def space_of(features: str, weights: str | None) -> FeatureSpace:
    """The feature space called `features`, or the CIFAR residual network whose weights that path holds.

    Its network lies on the GPU where there is one. Raises ValueError for unknown names, and what the space raises
    where its weights are missing.
    """
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        return _space_of(features, weights)


def _space_of(features: str, weights: str | None) -> FeatureSpace:
    if features in SPACES:
        return SPACES[features](weights)
    path = Path(features).expanduser()
    if path.suffix == ".safetensors" or path.exists():
        if not path.is_file():
            raise FileNotFoundError(f"--features: there is no file {path}")
        return cifar_space(path)
    raise ValueError(
        f"--features: there is no feature space {features!r}; choose from {', '.join(SPACES)}, or give the path of the "
        "weights of a CIFAR residual network"
    )


def clip_scores(
    images: Tensor, captions: Sequence[str], checkpoint: Path, name: str, track: Track, *, batch: int = 256
) -> Score:
    """The CLIP score of uint8 images (n, 3, H, W), each with a caption, by the model in a folder, under a name."""
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        space, embed = clip_space(checkpoint, name=name), clip_texts(checkpoint)
    seen, said = [], []
    with torch.inference_mode():
        for start in track(range(0, len(images), batch)):
            seen.append(space(images[start : start + batch]))
            said.append(embed(captions[start : start + batch]).cpu())
    return clip_score(torch.cat(seen), torch.cat(said), space=space.identity)


@dataclass(frozen=True, eq=False)
class Side:
    """What is known of one side: its features (n, d), or only their statistics."""

    name: str
    features: Tensor | None
    statistics: Statistics

    def rows(self, metric: str) -> Tensor:
        """The features; ValueError where there are only statistics."""
        if self.features is None:
            raise ValueError(f"{self.name} holds statistics, from which only fid can be computed, not {metric}")
        return self.features

    @cached_property
    def manifold(self) -> Manifold:
        """The manifold of the features, made once: a study compares many sides with one."""
        return Manifold.of(self.rows("pr"))


def is_statistics(path: Path) -> bool:
    """Whether a path is a file of statistics rather than of pictures."""
    return path.suffix in STATISTICS_SUFFIXES and not path.is_dir()


def statistics_side(path: Path, count: int | None, space: FeatureSpace) -> Side:
    """A side of which there are statistics: ours (.safetensors), or those of others (.npz)."""
    if path.suffix == ".npz":
        return Side(str(path), None, read_npz_statistics(path, count=count, space=space.identity))
    statistics = Statistics.load(path)
    if statistics.space != space.identity:
        raise ValueError(f"{path} holds statistics of {statistics.space}, not of {space.identity}")
    return Side(str(path), None, statistics)


class Shelf:
    """The features of one source in one space, in a folder named by both, that grow by batches and survive a kill."""

    def __init__(self, root: Path, space: FeatureSpace, fingerprint: str) -> None:
        self.space = space
        key = hashlib.sha256(f"{fingerprint} {astuple(space.identity)}".encode()).hexdigest()[:16]
        self.store = FeatureStore(root / f"{space.name}-{key}", space.identity)

    def missing(self, wanted: Iterable[int]) -> list[int]:
        """The indices without features yet."""
        return self.store.missing(wanted)

    def fill(self, batches: Batches) -> Iterator[int]:
        """Extract and keep the features of batches, one shard each; yields the number of images done."""
        for indices, images in batches:
            self.store.append(torch.tensor(indices), self.space(images))
            yield len(indices)

    def rows(self, wanted: Iterable[int]) -> Tensor:
        """The features (n, d) of those of the wanted indices that are held, in ascending order."""
        place = {index: row for row, index in enumerate(self.store.indices)}
        return self.store.features()[[place[index] for index in sorted(wanted) if index in place]]

    def side(self, name: str, wanted: Iterable[int]) -> Side:
        """The side that the wanted indices make."""
        return side_of(name, self.rows(wanted), self.space)


def side_of(name: str, rows: Tensor, space: FeatureSpace) -> Side:
    """A side of features (n, d)."""
    return Side(name, rows, Statistics.of(rows, space.identity))


@dataclass(frozen=True)
class Scoring:
    """How scores are computed: the resamples of intervals by bootstrap (0: none), and the seed of all draws."""

    resamples: int = 20
    seed: int = 0

    @property
    def generator(self) -> torch.Generator:
        """Random numbers, from their beginning."""
        return torch.Generator().manual_seed(self.seed)


def _fid(real: Side, fake: Side, space: FeatureSpace, how: Scoring) -> list[Score]:
    if real.features is None or fake.features is None or how.resamples < 2:
        return [frechet_distance(real.statistics, fake.statistics)]

    def distance(x: Tensor, y: Tensor) -> Score:
        return frechet_distance(x, y, space=space.identity)

    return [bootstrap(distance, real.features, fake.features, resamples=how.resamples, generator=how.generator)]


def _kid(real: Side, fake: Side, space: FeatureSpace, how: Scoring) -> list[Score]:
    rows = real.rows("kid"), fake.rows("kid")
    size = max(2, min(1000, min(map(len, rows)) // 2))  # all rows in every subset would leave no spread to show
    return [kernel_distance(*rows, subset_size=size, space=space.identity, generator=how.generator)]


def _pr(real: Side, fake: Side, space: FeatureSpace, how: Scoring) -> list[Score]:
    both = precision_recall(real.manifold, fake.rows("pr"), space=space.identity)
    return [both.precision, both.recall]


def _dc(real: Side, fake: Side, space: FeatureSpace, how: Scoring) -> list[Score]:
    both = density_coverage(real.rows("dc"), fake.rows("dc"), space=space.identity)
    return [both.density, both.coverage]


def _cmmd(real: Side, fake: Side, space: FeatureSpace, how: Scoring) -> list[Score]:
    return [cmmd(unit_rows(real.rows("cmmd")), unit_rows(fake.rows("cmmd")), space=space.identity)]


METRICS: Mapping[str, Callable[[Side, Side, FeatureSpace, Scoring], list[Score]]] = {
    "fid": _fid,
    "kid": _kid,
    "pr": _pr,
    "dc": _dc,
    "cmmd": _cmmd,
}


LEAST = {"pr": 4, "dc": 6}
"""Pictures of either side: the others must be as many as the neighbours that are looked for; elsewhere two."""


def metrics_named(text: str) -> tuple[str, ...]:
    """Names of metrics from "fid,kid,pr"; ValueError names those that there are."""
    names = tuple(word.strip() for word in text.split(","))
    unknown = [name for name in names if name not in METRICS]
    if unknown or len(set(names)) < len(names):
        raise ValueError(f"--metrics: {text!r} is not a list of different ones of {', '.join(METRICS)}")
    return names


def require_features(sides: Iterable[Path], metrics: Iterable[str]) -> None:
    """Raise ValueError, before any work, where a metric needs features and a side has only statistics."""
    beyond = [metric for metric in metrics if metric != "fid"]
    for path in sides:
        if is_statistics(path) and beyond:
            raise ValueError(f"{path} holds statistics, from which only fid can be computed, not {', '.join(beyond)}")


def scores_of(
    real: Side, fake: Side, space: FeatureSpace, metrics: Iterable[str], how: Scoring
) -> tuple[list[Score], list[str]]:
    """The scores of two sides, and what has to be said about them.

    Raises:
        ValueError: for fewer pictures than a metric needs.
    """
    metrics = tuple(metrics)
    for side in (real, fake):
        needed = max((LEAST.get(name, 2) for name in metrics), default=0)
        if side.statistics.count < needed:
            raise ValueError(
                f"{side.name}: {side.statistics.count} pictures are too few for {', '.join(metrics)}, which need "
                f"{needed} at least; give more of them (scores of fewer than some thousands are comparable only with "
                "scores of as many)"
            )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SmallSampleWarning)
        found = [score for name in metrics for score in METRICS[name](real, fake, space, how)]
    return found, list(dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, SmallSampleWarning)))


def score_facts(score: Score) -> dict[str, Any]:
    """A score with its first line, as JSON-able data."""
    return {"line": str(score), **asdict(score)}

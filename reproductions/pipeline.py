"""The data flow of a text-to-image table, top to bottom.

data -> autoencoder -> tokens | latents -> denoiser (with or without context) -> samples -> images -> scores
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from reproductions import cascade
from reproductions.artefacts import Desk, Stage
from reproductions.data import DataSettings, fingerprint
from reproductions.drawn.shapes import SETS
from reproductions.experiment import Backbone, Method, Row
from reproductions.frozen_texts import caption_stages
from reproductions.profiles import Denoiser, FirstStage, Profile
from reproductions.stages import autoencoding, continuous, discrete, measuring, preparing, scoring, texts
from reproductions.stages.texts import TakenOver


@dataclass(frozen=True)
class Flow:
    """What differs between the two backbones: the stages' functions, and how they are sized for the plan."""

    autoencoder: Callable[[Desk], None]
    encode: Callable[[Desk], None]
    train: Callable[[Desk], None]
    sample: Callable[[Desk], None]
    decode: Callable[[Desk], None]
    training: Callable[..., Any]
    sampling: Callable[..., Any]
    autoencoder_size: Callable[[Any], Mapping[str, int]]
    autoencoder_cost: Callable[[Any], Mapping[str, int]]
    denoiser_size: Callable[[Any, FirstStage], Mapping[str, int]]
    denoiser_cost: Callable[[Any, FirstStage], Mapping[str, int]]
    sampling_cost: Callable[[Any, FirstStage], Mapping[str, int]]


FLOWS = {
    Backbone.DISCRETE: Flow(
        autoencoding.train_vq,
        autoencoding.encode_vq,
        discrete.train,
        discrete.sample,
        autoencoding.decode_vq,
        discrete.Training,
        discrete.Sampling,
        autoencoding.vq_size,
        autoencoding.vq_cost,
        discrete.size,
        discrete.cost,
        discrete.sampling_cost,
    ),
    Backbone.CONTINUOUS: Flow(
        autoencoding.train_kl,
        autoencoding.encode_kl,
        continuous.train,
        continuous.sample,
        autoencoding.decode_kl,
        continuous.Training,
        continuous.Sampling,
        autoencoding.kl_size,
        autoencoding.kl_cost,
        continuous.size,
        continuous.cost,
        continuous.sampling_cost,
    ),
}
AUTOENCODERS = {Backbone.DISCRETE: "VQ", Backbone.CONTINUOUS: "KL"}


@dataclass(frozen=True)
class Run:
    """The stages of one row under one seed; trainings: of a cascade that of its small pictures first.

    scores: what write `scores.json`, the first of them also which drawings are right.
    """

    trainings: tuple[Stage, ...]
    images: Stage
    scores: tuple[Stage, ...]


@dataclass(frozen=True)
class Coded:
    """A first stage, what it makes of the training pictures, and how well it rebuilds held-out ones."""

    stage: FirstStage
    autoencoder: Stage
    clean: Stage
    reconstructions: Stage


@dataclass(frozen=True)
class Plan:
    """All stages of a table: shared ones once, then a run for each row and seed."""

    data: Stage
    judge: Stage | None
    autoencoders: Mapping[str, Stage]
    reconstructions: Mapping[str, Stage]
    runs: Mapping[str, Mapping[int, Run]]

    @property
    def goals(self) -> list[Stage]:
        """The stages that nothing reads; what they need follows from them. Shared and long ones come first."""
        scores = [stage for runs in self.runs.values() for run in runs.values() for stage in run.scores]
        return [*([self.judge] if self.judge else []), *self.reconstructions.values(), *scores]


@dataclass(frozen=True)
class Foreign:
    """Networks that were trained elsewhere.

    text_encoder: the frozen one that reads captions; space: in which samples are compared with held-out pictures
    besides; clip: what says how well samples fit their captions.
    """

    text_encoder: str | None = None
    space: scoring.Space | None = None
    clip: TakenOver | None = None


def plan(
    rows: Sequence[Row], profile: Profile, data: DataSettings, seeds: Sequence[int], foreign: Foreign = Foreign()
) -> Plan:
    """The stages that measure `rows` on `data` at the size of `profile`, for each seed."""
    ground = _Ground(profile, data, foreign)
    runs = {row.approach: {seed: ground.run(row, seed) for seed in seeds} for row in rows}
    used = [row.method.backbone for row in rows if isinstance(row.method, Method)]
    coded = {AUTOENCODERS[each]: ground.coded(each) for each in used if each in FLOWS}
    return Plan(
        ground.source,
        ground.judge,
        {name: each.autoencoder for name, each in coded.items()},
        {name: each.reconstructions for name, each in coded.items()},
        runs,
    )


@dataclass(frozen=True)
class _Ground:
    """What all rows stand on."""

    profile: Profile
    data: DataSettings
    foreign: Foreign

    @cached_property
    def source(self) -> Stage:
        return Stage("data", preparing.read, preparing.Reading(self.data, fingerprint(self.data)))

    @property
    def drawings(self) -> str | None:
        return self.data.name if self.data.name in SETS else None

    @cached_property
    def judge(self) -> Stage | None:
        return judge_of(self.profile, self.data) if self.drawings else None

    @property
    def reading(self) -> dict[str, Stage]:
        """What scores read besides pictures."""
        return {"data": self.source} | ({"judge": self.judge} if self.judge else {})

    def coded(self, backbone: Backbone) -> Coded:
        flow, name, (first, _) = FLOWS[backbone], AUTOENCODERS[backbone], self.settings(backbone)
        rebuilt = autoencoding.Reconstructing(first, self.profile.samples)
        autoencoder = Stage(
            f"{name} autoencoder",
            flow.autoencoder,
            rebuilt,
            {"data": self.source},
            size=partial(flow.autoencoder_size, rebuilt),
            cost=partial(flow.autoencoder_cost, rebuilt),
            shared=True,
        )
        scores = Stage(
            f"{name} reconstructions",
            measuring.measure,
            measuring.Measuring(self.drawings, paired=True),
            {"images": autoencoder, **self.reading},
            version=2,
        )
        clean = Stage(f"{name} encoding", flow.encode, None, {"data": self.source, "autoencoder": autoencoder})
        return Coded(first, autoencoder, clean, scores)

    def settings(self, backbone: Backbone) -> tuple[FirstStage, Denoiser]:
        if backbone is Backbone.DISCRETE:
            return self.profile.vq, self.profile.discrete
        return self.profile.kl, self.profile.continuous

    def run(self, row: Row, seed: int) -> Run:
        """The stages of a row."""
        assert isinstance(row.method, Method)
        name = f"{row.approach} seed {seed}"
        if row.method.backbone is Backbone.CASCADE:
            trainings, images = cascade.stages(
                name, self.profile, row.method.context, self.data, self.source, seed, self.foreign.text_encoder
            )
        else:
            trainings, images = self._drawn(row, row.method, seed)
        return Run(trainings, images, tuple(self.scores(name, images)))

    def scores(self, name: str, images: Stage) -> Iterator[Stage]:
        """What scores pictures: by the judge, in a feature space, by a CLIP."""
        drawn, pictures = {"images": images, **self.reading}, {"images": images, "data": self.source}
        yield Stage(f"{name} scores", measuring.measure, measuring.Measuring(self.drawings), drawn, version=2)
        space, clip = self.foreign.space, self.foreign.clip
        if space is not None:
            settings = scoring.Reference(space, self.profile.held_out_size)
            real = Stage("held-out features", scoring.held_out_reference, settings, {"data": self.source})
            how = scoring.Scoring(space, metrics=("fid",))
            yield Stage(f"{name} feature scores", scoring.score, how, {**pictures, "real": real})
        if clip is not None:
            model = Stage("CLIP", texts.take_over, clip)
            fitting = scoring.Fitting(self.profile.samples, clip.name)
            yield Stage(f"{name} CLIP score", scoring.fit_captions, fitting, {**pictures, "clip": model})

    def _drawn(self, row: Row, method: Method, seed: int) -> tuple[tuple[Stage, ...], Stage]:
        """The training of a denoiser behind a first stage, and its pictures."""
        flow, coded = FLOWS[method.backbone], self.coded(method.backbone)
        _, denoiser = self.settings(method.backbone)
        words = caption_stages(self.source, denoiser.captions, self.foreign.text_encoder)
        seeded = replace(denoiser, training=replace(denoiser.training, seed=seed))
        training, name = flow.training(seeded, method.context), f"{row.approach} seed {seed}"
        train = Stage(
            f"{row.trained_as or row.approach} seed {seed} train",
            flow.train,
            training,
            {"clean": coded.clean, **words},
            size=partial(flow.denoiser_size, training, coded.stage),
            cost=partial(flow.denoiser_cost, training, coded.stage),
            shared=True,
        )
        drawing = flow.sampling(seeded, self.profile.samples, self.profile.sampling_batch, seed)
        sample = Stage(
            f"{name} sample",
            discrete.sample_by_purity if method.purity else flow.sample,
            drawing,
            {"model": train, "clean": coded.clean, **words, "data": self.source},
            cost=partial(flow.sampling_cost, drawing, coded.stage),
            shared=True,
        )
        decoding = {"samples": sample, "autoencoder": coded.autoencoder, "clean": coded.clean}
        return (train,), Stage(f"{name} decode", flow.decode, None, decoding)


def judge_of(profile: Profile, data: DataSettings) -> Stage:
    """The judge of a drawn set."""
    training = replace(profile.judge, samples=profile.judge.samples * SETS[data.name].effort)
    judging = preparing.Judging(
        data.name, fingerprint(data), data.resolution, training, profile.train_size, profile.held_out_size
    )
    return Stage("judge", preparing.train_judge, judging, shared=True)

"""The data flow of a text-to-image table, top to bottom.

data -> autoencoder -> tokens | latents -> denoiser (with or without context) -> samples -> images -> scores
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from reproductions.artefacts import Desk, Stage
from reproductions.data import DataSettings, fingerprint
from reproductions.experiment import Backbone, Method, Row
from reproductions.frozen_texts import caption_stages
from reproductions.profiles import Denoiser, FirstStage, Profile
from reproductions.shapes import SETS
from reproductions.stages import autoencoding, continuous, discrete, measuring, preparing


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
    """The stages of one row under one seed."""

    train: Stage
    images: Stage
    scores: Stage


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
        scores = [run.scores for runs in self.runs.values() for run in runs.values()]
        return [*([self.judge] if self.judge else []), *self.reconstructions.values(), *scores]


def plan(
    rows: Sequence[Row], profile: Profile, data: DataSettings, seeds: Sequence[int], text_encoder: str | None = None
) -> Plan:
    """The stages that measure `rows` on `data` at the size of `profile`, for each seed; text_encoder: a frozen one."""
    source = Stage("data", preparing.read, preparing.Reading(data, fingerprint(data)))
    drawings = data.name if data.name in SETS else None
    judge = judge_of(profile, data) if drawings else None
    reading = {"data": source} | ({"judge": judge} if judge else {})

    autoencoders: dict[str, Stage] = {}
    reconstructions: dict[str, Stage] = {}
    runs: dict[str, dict[int, Run]] = {}
    for row in rows:
        assert isinstance(row.method, Method)
        flow, name = FLOWS[row.method.backbone], AUTOENCODERS[row.method.backbone]
        first, denoiser = _settings(profile, row.method.backbone)
        words = caption_stages(source, denoiser.captions, text_encoder)
        if name not in autoencoders:
            rebuilt = autoencoding.Reconstructing(first, profile.samples)
            autoencoders[name] = Stage(
                f"{name} autoencoder",
                flow.autoencoder,
                rebuilt,
                {"data": source},
                size=partial(flow.autoencoder_size, rebuilt),
                cost=partial(flow.autoencoder_cost, rebuilt),
                shared=True,
            )
            reconstructions[name] = Stage(
                f"{name} reconstructions",
                measuring.measure,
                measuring.Measuring(drawings, paired=True),
                {"images": autoencoders[name], **reading},
            )
        coded = {"data": source, "autoencoder": autoencoders[name]}
        clean = Stage(f"{name} encoding", flow.encode, None, coded)
        runs[row.approach] = {}
        for seed in seeds:
            label = f"{row.approach} seed {seed}"
            seeded = replace(denoiser, training=replace(denoiser.training, seed=seed))
            training = flow.training(seeded, row.method.context)
            train = Stage(
                f"{label} train",
                flow.train,
                training,
                {"clean": clean, **words},
                size=partial(flow.denoiser_size, training, first),
                cost=partial(flow.denoiser_cost, training, first),
                shared=True,
            )
            drawing = flow.sampling(seeded, profile.samples, profile.sampling_batch, seed)
            sample = Stage(
                f"{label} sample",
                flow.sample,
                drawing,
                {"model": train, "clean": clean, **words, "data": source},
                cost=partial(flow.sampling_cost, drawing, first),
                shared=True,
            )
            decoding = {"samples": sample, "autoencoder": autoencoders[name], "clean": clean}
            images = Stage(f"{label} decode", flow.decode, None, decoding)
            scores = Stage(
                f"{label} scores", measuring.measure, measuring.Measuring(drawings), {"images": images, **reading}
            )
            runs[row.approach][seed] = Run(train, images, scores)
    return Plan(source, judge, autoencoders, reconstructions, runs)


def judge_of(profile: Profile, data: DataSettings) -> Stage:
    """The judge of a drawn set."""
    training = replace(profile.judge, samples=profile.judge.samples * SETS[data.name].effort)
    judging = preparing.Judging(
        data.name, fingerprint(data), data.resolution, training, profile.train_size, profile.held_out_size
    )
    return Stage("judge", preparing.train_judge, judging, shared=True)


def _settings(profile: Profile, backbone: Backbone) -> tuple[FirstStage, Denoiser]:
    if backbone is Backbone.DISCRETE:
        return profile.vq, profile.discrete
    return profile.kl, profile.continuous

"""The command line: `python -m reproductions table1 ...`, installed as `conprediff`."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro

from reproductions.commands.comparison_options import CompareOptions
from reproductions.commands.denoiser_options import (
    ContinuousOptions,
    DenoiserOptions,
    DiscreteOptions,
    Given,
    ScaleOptions,
    with_autoencoder,
)
from reproductions.commands.evaluation_options import CorruptionOptions, EvaluateOptions
from reproductions.commands.first_stage_options import StudyOptions, TrainOptions
from reproductions.commands.generation_options import InpaintOptions, SampleOptions, UpscaleOptions
from reproductions.studies.context_study_options import ContextStudyOptions
from reproductions.table_options import InpaintingTableOptions, TableOptions


@dataclass(frozen=True)
class Options:
    """What a table's command takes."""

    profile: str = "cpu"
    """How much of everything: smoke, cpu, gpu or paper."""
    data: str = "shapes"
    """shapes, shapes-hard, digits, a folder of images, a parquet file or folder, .tar shards or a hub id; checked
    against MS-COCO's splits with coco= or coco-karpathy= before it."""
    rows: str | None = None
    """Rows to measure, "A,B" (all that can be)."""
    seeds: str = "0"
    """Seeds of training and sampling, "0,1,2"; with two or more, results come with intervals."""
    out: Path | None = None
    """Where everything is written (outputs/<table>-<profile>-<data>)."""
    text_encoder: str | None = None
    """Folder or hub id of the frozen CLIP that reads captions, where the profile has one: paper."""
    features: str | None = None
    """Feature space in which samples are compared with held-out pictures besides: a name (inception-legacy_tensorflow,
    which it is at paper, inception, ...) or the weights of a CIFAR residual network."""
    clip: str | None = None
    """Folder or hub id of a CLIP of images and texts: samples get a CLIP score by it."""
    dry_run: bool = False
    """Print the plan, with its parameters, operations, memory, storage and device-hours, and stop."""
    devices: int = 1
    """With --dry-run: devices that share every batch."""
    achieved: float = 1e14
    """With --dry-run: floating-point operations a second that one device achieves."""
    image_column: str = "image"
    """Column of a data set that holds the images."""
    caption_column: str | None = None
    """Column that holds the captions (found by its name)."""
    revision: str | None = None
    """Revision of a hub data set."""
    max_bad: int = 0
    """How many unreadable images or empty captions to leave out before giving up."""
    workers: int | None = None
    """Stages at a time, each in its own process (one per core, or one where there is a GPU; 0: all in this process)."""


def table1(options: tyro.conf.OmitArgPrefixes[Options]) -> int:
    """Text to image: ConPreDiff's Table 1, the rows that we can run measured, all others cited.

    Give the same command again after an interruption, and it goes on where it was.
    """
    from reproductions.reproduce import reproduce
    from reproductions.table1 import TABLE

    return reproduce(TABLE, options)


def table2(options: tyro.conf.OmitArgPrefixes[InpaintingTableOptions]) -> int:
    """Pictures filled in behind six kinds of masks: ConPreDiff's Table 2 on one data set or several."""
    from reproductions import table2

    return table2.table2(options)


def table3(options: tyro.conf.OmitArgPrefixes[TableOptions]) -> int:
    """Pictures without any condition: ConPreDiff's Table 3 on one data set or several."""
    from reproductions import table3

    return table3.table3(options)


def figure4(options: tyro.conf.OmitArgPrefixes[TableOptions]) -> int:
    """Quality and cost against the stride of the context: ConPreDiff's Figure 4."""
    from reproductions import figure4

    return figure4.figure4(options)


def figure5(options: tyro.conf.OmitArgPrefixes[TableOptions]) -> int:
    """Six published models with and without context prediction: ConPreDiff's Figure 5."""
    from reproductions import figure5

    return figure5.figure5(options)


def autoencoder(options: tyro.conf.OmitArgPrefixes[TrainOptions]) -> int:
    """Train a first stage on any images, fit its latent scale, and measure what it rebuilds."""
    from reproductions.commands.first_stages import train

    return train(options)


def discrete(options: tyro.conf.OmitArgPrefixes[DiscreteOptions]) -> int:
    """Train a denoiser of an autoencoder's tokens, sample it and score the samples; the same command again goes on."""
    if options.misplaced:
        print(f"error: {options.misplaced}: only --kind imagebart takes that", file=sys.stderr)
        return 2
    if options.kind == "imagebart":
        from reproductions.commands.scale_denoisers import train_imagebart

        return train_imagebart(_found(options))
    from reproductions.commands.denoisers import train_discrete

    return train_discrete(_found(options))


def continuous(options: tyro.conf.OmitArgPrefixes[ContinuousOptions]) -> int:
    """Train a denoiser of an autoencoder's latents, or of pixels, likewise: to draw, to fill in or to enlarge."""
    from reproductions.commands.restorers import train

    return train(_found(options))


def autoencoders(options: tyro.conf.OmitArgPrefixes[StudyOptions]) -> int:
    """Compare bottlenecks at equal budget and equal bits per image."""
    from reproductions.commands.first_stages import study

    return study(options)


def context_study(options: tyro.conf.OmitArgPrefixes[ContextStudyOptions]) -> int:
    """Ask whether context prediction helps: trainings with and without it, and with it changed, seed by seed."""
    from reproductions.studies.context_study import study

    return study(options)


def discrete_study(options: tyro.conf.OmitArgPrefixes[DenoiserOptions]) -> int:
    """Sample a denoiser of tokens in many ways: steps, strides, purity prior, guidance; it is trained if need be."""
    from reproductions.studies.denoiser_studies import study_discrete

    return study_discrete(_found(options))


def continuous_study(options: tyro.conf.OmitArgPrefixes[DenoiserOptions]) -> int:
    """Sample a denoiser of latents or pixels in many ways: solvers, steps, guidance; it is trained if need be."""
    from reproductions.studies.denoiser_studies import study_continuous

    return study_continuous(_found(options))


def imagebart_study(options: tyro.conf.OmitArgPrefixes[ScaleOptions]) -> int:
    """Compare ImageBARTs of one, two and three scales at equal parameters and budget: bits, scores, time, edits."""
    from reproductions.studies.scale_study import study_imagebart

    return study_imagebart(_found(options))


def evaluate(options: tyro.conf.OmitArgPrefixes[EvaluateOptions]) -> int:
    """Score one set of pictures against another; the same command again goes on after an interruption."""
    from reproductions.commands import evaluate

    return evaluate.evaluate(options)


def sample(options: tyro.conf.OmitArgPrefixes[SampleOptions]) -> int:
    """Draw pictures from a trained run; the same command again goes on, and with a larger --number draws more."""
    from reproductions.commands import generation

    return generation.sample(options)


def inpaint(options: tyro.conf.OmitArgPrefixes[InpaintOptions]) -> int:
    """Fill pictures in behind a mask by a trained run of any kind; the same command again goes on."""
    from reproductions.commands import generation

    return generation.inpaint(options)


def upscale(options: tyro.conf.OmitArgPrefixes[UpscaleOptions]) -> int:
    """Enlarge pictures by a run trained for super-resolution; the same command again goes on."""
    from reproductions.commands import generation

    return generation.upscale(options)


def compare(options: tyro.conf.OmitArgPrefixes[CompareOptions]) -> int:
    """Compare finished runs of one table on one page: rows, differences, and the settings that differ."""
    from reproductions.commands import compare

    return compare.compare(options)


def metrics(options: tyro.conf.OmitArgPrefixes[CorruptionOptions]) -> int:
    """Make pictures worse in five ways, and see whether scores follow."""
    from reproductions.studies import corruptions

    return corruptions.study(options)


def _found(options: Given) -> Given:
    """The options with their autoencoder found; a mistake ends the command."""
    try:
        return with_autoencoder(options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


COMMANDS: dict[str, Callable[..., int]] = {
    "table1": table1,
    "table2": table2,
    "table3": table3,
    "figure4": figure4,
    "figure5": figure5,
    "compare": compare,
    "evaluate": evaluate,
    "sample": sample,
    "inpaint": inpaint,
    "upscale": upscale,
}
GROUPS: dict[str, dict[str, Callable[..., int]]] = {
    "train": {"autoencoder": autoencoder, "discrete": discrete, "continuous": continuous},
    "study": {
        "autoencoders": autoencoders,
        "context": context_study,
        "discrete": discrete_study,
        "continuous": continuous_study,
        "imagebart": imagebart_study,
        "metrics": metrics,
    },
}


def group(name: str) -> Callable[[], int]:
    """What a group of commands does without one of them: say which there are."""

    def listed() -> int:
        print(f"usage: conprediff {name} {{{','.join(GROUPS[name])}}} [--help]", file=sys.stderr)
        return 2

    listed.__doc__ = f"{name.capitalize()}: {', '.join(GROUPS[name])}."
    return listed


def main() -> None:
    """Run the command line; the exit code is 0, 2 for a mistake in it, 1 for a failed stage, 130 for Ctrl-C."""
    try:
        arguments = sys.argv[1:]
        if len(arguments) > 1 and arguments[0] in GROUPS:
            commands, prog, arguments = GROUPS[arguments[0]], f"conprediff {arguments[0]}", arguments[1:]
        else:
            commands, prog = {**COMMANDS, **{name: group(name) for name in GROUPS}}, "conprediff"
        sys.exit(tyro.extras.subcommand_cli_from_dict(commands, prog=prog, args=arguments))
    except KeyboardInterrupt:
        print("\ninterrupted before anything was begun; give the same command again", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()

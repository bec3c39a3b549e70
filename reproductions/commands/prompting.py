"""What pictures of a trained run are drawn for, from what the command line says."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import torch

from reproductions.conditioning import Conditioning, Kind
from reproductions.gathering.splits import HELD_OUT
from reproductions.stages import conditions, texts
from reproductions.stages.conditions import Prompts
from reproductions.stages.generating import Opened


def for_samples(opened: Opened, number: int, captions: Path | None, only: str | None) -> Prompts:
    """What so many samples are drawn for: a class or all in turn, captions in turn, or nothing.

    Raises:
        ValueError: where the run was not trained for that, there is no such class, or no caption.
    """
    told = opened.told
    if captions is not None and told.kind is not Kind.CAPTION:
        raise ValueError(f"--captions: {_trained_for(told)}")
    if only is not None:
        if told.kind is not Kind.CLASS:
            raise ValueError(f"--class: {_trained_for(told)}")
        return _repeated(opened, only, number)
    if captions is None:
        return conditions.prompts(opened.desk, told, HELD_OUT, number)
    lines = [line.strip() for line in captions.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"--captions: {captions} holds no caption; write one in each line")
    return _tokenised(opened, [lines[i % len(lines)] for i in range(number)])


def for_pictures(opened: Opened, number: int, condition: str | None) -> Prompts:
    """What so many pictures are filled in for: one class or caption for all, or nothing.

    Raises:
        ValueError: where it is missing, or the run was not trained for it.
    """
    told = opened.told
    if told.kind is Kind.NONE:
        if condition is not None:
            raise ValueError(f"--condition: {_trained_for(told)}")
        return Prompts(None, ("",) * number)
    if condition is None:
        raise ValueError(f"--condition: give what to fill in for; {_trained_for(told)}")
    return _repeated(opened, condition, number)


def for_words(opened: Opened, words: Sequence[str]) -> Prompts:
    """What pictures are made for, in words of each: a class or a caption.

    Raises:
        ValueError: for a class that there is not.
    """
    if opened.told.kind is Kind.CAPTION:
        return _tokenised(opened, words)
    return Prompts(torch.tensor([label_of(each, opened.told.classes) for each in words]), tuple(words))


def _repeated(opened: Opened, asked: str, number: int) -> Prompts:
    if opened.told.kind is Kind.CAPTION:
        return _tokenised(opened, [asked] * number)
    return Prompts(torch.full((number,), label_of(asked, opened.told.classes)), (asked,) * number)


def _tokenised(opened: Opened, words: Sequence[str]) -> Prompts:
    return Prompts(texts.words(opened.desk, opened.told.captions)(list(words)), tuple(words))


def label_of(name: str, classes: Sequence[str]) -> int:
    """The label of a class by its name, spaces for underscores or not; ValueError where there is none."""
    spoken = [each.replace("_", " ") for each in classes]
    wanted = name.replace("_", " ")
    if wanted in spoken:
        return spoken.index(wanted)
    near = difflib.get_close_matches(wanted, spoken, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"there is no class {name!r}; the run was trained for {', '.join(spoken)}{hint}")


def _trained_for(told: Conditioning) -> str:
    if told.kind is Kind.CLASS:
        return f"the run was trained for the classes {', '.join(told.classes)}"
    return (
        "the run was trained for captions" if told.kind is Kind.CAPTION else "the run was trained without a condition"
    )

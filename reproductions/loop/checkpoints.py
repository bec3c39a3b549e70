"""Checkpoints of a training: whole or not there, readable or named as broken, and only the newest is kept."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator

from reproductions.loop import room
from reproductions.loop.room import NoRoom


def save(accelerator: Accelerator, folder: Path, done: int, settings: object) -> None:
    """Write a checkpoint under a partial name, rename it, drop the older ones.

    Raises:
        NoRoom: where the disk is full; the checkpoint before stays as it is.
    """
    partial = folder / "checkpoint.partial"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    older = list(folder.glob("checkpoint-*"))
    try:
        accelerator.save_state(str(partial))
        if accelerator.is_main_process:
            (partial / "position.json").write_text(json.dumps({"step": done, "settings": repr(settings)}))
    except Exception as error:
        if not room.is_full(error, folder):
            raise
        raise NoRoom(_too_large(partial, older, done)) from error
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        os.replace(partial, folder / f"checkpoint-{done:09d}")
        for path in older:
            shutil.rmtree(path, ignore_errors=True)
    accelerator.wait_for_everyone()


def _too_large(partial: Path, older: Sequence[Path], done: int) -> str:
    """What to say of a checkpoint that did not fit; what was written of it is removed."""
    folder = partial.parent
    needed = f"takes {room.said(room.size(older[-1]))}" if older else f"takes more than {room.said(room.size(partial))}"
    kept = f"the checkpoint of step {resumed(folder):,} is whole" if older else "there is none before it"
    shutil.rmtree(partial, ignore_errors=True)
    return (
        f"the checkpoint of step {done:,} {needed}, and there is no room for it: {room.said(room.free(folder))} free "
        f"at {folder}; {kept}. Make room, and give the same command again to go on from there"
    )


def resume(accelerator: Accelerator, folder: Path, settings: object) -> int:
    """Load the newest checkpoint; returns the number of steps that are done.

    Raises:
        ValueError: for a checkpoint that was written under other settings, or that cannot be read.
    """
    found = sorted(folder.glob("checkpoint-*"))
    if not found:
        return 0
    with _readable(found[-1]):
        position = json.loads((found[-1] / "position.json").read_text())
    if position["settings"] != repr(settings):
        raise ValueError(
            f"{found[-1]} was written with other settings ({position['settings']}; now {settings!r}): "
            "give the same settings again, or remove that folder to start afresh"
        )
    with _readable(found[-1]):
        accelerator.load_state(str(found[-1]))
    return int(position["step"])


@contextmanager
def _readable(checkpoint: Path) -> Iterator[None]:
    """Name a checkpoint that was damaged since it was written."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise ValueError(
            f"the checkpoint {checkpoint} cannot be read ({error}): remove that folder, and its training starts afresh"
        ) from error


def resumed(folder: Path) -> int:
    """Steps that the newest checkpoint has done."""
    return max((int(path.name.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*")), default=0)


def clear(folder: Path) -> None:
    """Remove the checkpoints of a training whose result is written."""
    for path in folder.glob("checkpoint*"):
        shutil.rmtree(path, ignore_errors=True)
